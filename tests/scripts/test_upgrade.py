"""An upgrade in place: an older release, out of git's history, and then the scripts as they are."""

import io
import json
import re
import subprocess
import tarfile
from pathlib import Path

import pytest
from account import APP, MIRROR, PROJECT, SOURCE
from asked_for import Compared
from documents import Scripts, scripts_of_module, sourced_scripts
from oracles import changed_things
from paper_account import PaperAccount
from test_policy_files import Held, Principal, policy_of

COMMITS = {"1.0.0": "edc5bab", "1.1.0": "5d48ab7", "1.2.0": "12245a1", "1.3.0": "718ac70"}
# What the release did not have, beside the image of the code as it is now.
MADE = {"1.0.0": ["image", "alarm", "metric", "alarm"], "1.1.0": ["image", "alarm"], "1.2.0": ["image"]}
MADE |= {"1.3.0": ["image"]}
# Named when the older release was deployed, and never again.
SHOWN = {"ALARM_EMAIL": "ops@example.com", "PREFIX_FILTER": "my models/", "LAMBDA_POLL_RATE": "5", "MAX_WORKERS": "3"}
SHOWN |= {"MESSAGES_PER_WORKER": "20", "MAX_RECEIVES": "4", "TASK_MEMORY": "8192", "LOG_RETENTION_DAYS": "90"}
SHOWN |= {"ALARM_AGE_SECONDS": "1800"}
SHOWN_SINCE_1_1 = {"EXCLUDE": "*.tmp,*/_temporary/*", "KEEP_DAYS": "30", "COPY_LAST": "_SUCCESS", "MIN_WORKERS": "1"}
NOT_SHOWN = {"CREATE_VPC_ENDPOINTS": "true"}
PASSWORD = "correct-horse"
FLAGS = {"DOCKER_BUILD_FLAGS": f"--build-arg HTTPS_PROXY=http://user:{PASSWORD}@proxy.example:3128"}
NEW_SHELL = dict.fromkeys(("SRC_BUCKET", "DST_BUCKET", "PREFIX_FILTER"))


def unpack_release(release: str, folder: Path) -> Path:
    """Its files. Without the whole history there is nothing to upgrade from, and the test fails."""
    command = ["git", "-C", PROJECT, "archive", COMMITS[release]]
    done = subprocess.run(command, capture_output=True)
    assert done.returncode == 0, (
        f"this test needs the commit {COMMITS[release]}, so a clone with its whole history (git fetch --unshallow): "
        + done.stderr.decode()
    )
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return folder


scripts = scripts_of_module()


@pytest.mark.parametrize("release", COMMITS)
def test_an_older_deployment_is_brought_up_to_date_in_one_run_that_loses_nothing(
    scripts: Scripts, tmp_path: Path, release: str
) -> None:
    """Nor a setting: the runs of the newer release are in a shell that has only the Region."""
    with sourced_scripts(tmp_path, project=unpack_release(release, tmp_path / "release")) as older:
        older.deploy(**SHOWN | SHOWN_SINCE_1_1 | NOT_SHOWN | FLAGS)
    held = Held(policy_of(scripts, "deployer"))
    account = scripts.account = Principal(held, older.account.kept)

    if release == "1.0.0":  # whose workers cannot read events of EventBridge
        ran = scripts.deploy("--dry-run", status=2, EVENT_SOURCE="eventbridge", **NEW_SHELL)
        assert "release 1.0.0 is deployed" in ran.errors
    ran = scripts.deploy(ROLLBACKS="false", **NEW_SHELL)
    assert re.findall(r"^\[\d+/\d+\] (\w+).*: created$", ran.output, re.MULTILINE) == MADE[release], ran.output
    assert [call for call in ran.writes if "Delete" in call.operation] == []  # so that no message is lost, either
    for put in ran.sent("PutBucketNotificationConfiguration"):
        assert [one["Id"] for one in put["NotificationConfiguration"]["QueueConfigurations"]] == [APP]
    taken = SHOWN if release == "1.0.0" else SHOWN | SHOWN_SINCE_1_1
    taken |= NOT_SHOWN if has_record(release) else {}
    assert kept_settings(account) == taken | {"ROLLBACKS": "false", "SRC_BUCKET": SOURCE, "DST_BUCKET": MIRROR}
    assert [name for name, value in taken.items() if f" {name}={value}" not in ran.errors] == []
    assert ("nothing shows BASE_IMAGE, IMAGE_URI, " in ran.errors) != has_record(release)

    scripts.deploy("--dry-run", "--detailed-exitcode", **NEW_SHELL)  # ends with 0, so there is nothing to do
    scripts.clean_up("--yes", **NEW_SHELL)
    assert changed_things(PaperAccount().kept, account.kept) == []
    assert held.denied == []


def has_record(release: str) -> bool:
    return release == "1.3.0"


def test_a_password_among_the_flags_of_builds_is_forgotten_and_shown_by_nothing(
    scripts: Scripts, tmp_path: Path
) -> None:
    """Release 1.3.0 recorded it. The upgrade still builds with it, and says how the old revisions go."""
    with sourced_scripts(tmp_path, project=unpack_release("1.3.0", tmp_path / "release")) as older:
        older.deploy(**FLAGS | {"KEEP_DAYS": "30"})
        older.deploy(**FLAGS | {"KEEP_DAYS": "7"})
        held = [task for task in older.account.of_kind("task") if PASSWORD in json.dumps(task)]
        assert len(held) == 2
    account = scripts.account = PaperAccount()
    account.kept = older.account.kept

    planned = scripts.deploy("--dry-run", **NEW_SHELL)
    as_json = scripts.deploy("--dry-run", "--json", **NEW_SHELL)
    shown = scripts.clean_up("--dry-run", **NEW_SHELL)
    ran = scripts.deploy(**NEW_SHELL)
    (build,) = [call.parameters["words"] for call in ran.writes if call.operation == "buildx"]
    assert FLAGS["DOCKER_BUILD_FLAGS"] in " ".join(build)
    for one in (planned, as_json, shown, ran):
        assert PASSWORD not in one.output + one.errors
    assert 'containerDefinitions.worker.settings.DOCKER_BUILD_FLAGS: "(not shown)" -> ""\n' in planned.output
    assert kept_settings(account)["KEEP_DAYS"] == "7"

    assert f"Revisions of {APP}-task up to 2 may still show it: delete them" in ran.errors
    (command,) = re.findall(r"^ *`(.*)`$", ran.errors, re.MULTILINE)
    scripts.run(re.sub(r"aws (.*?) --region (\S+)", r"aws --region \2 --output json \1", command))
    assert [task["taskDefinitionArn"][-2:] for task in account.of_kind("task")] == [":3"]
    assert PASSWORD not in json.dumps([*account.of_kind("task")])

    again = scripts.deploy("--dry-run", "--detailed-exitcode", **NEW_SHELL)  # ends with 0
    assert "DOCKER_BUILD_FLAGS" not in again.output + again.errors


def test_what_was_named_with_a_release_that_records_nothing_is_asked_for(scripts: Scripts, tmp_path: Path) -> None:
    """1.2.0 leaves a revision with its record if it changes nothing of the task definition."""
    account = scripts.with_deployment(IMAGE_URI="worker:1")
    assert "By the tags" not in scripts.deploy("--dry-run", IMAGE_URI="worker:1").errors
    with sourced_scripts(tmp_path, project=unpack_release("1.2.0", tmp_path / "release")) as older:
        older.account = account
        older.deploy(IMAGE_URI="worker:1", LAMBDA_POLL_RATE="9")
    assert len(list(account.of_kind("task"))) == 1
    ran = scripts.deploy("--dry-run", IMAGE_URI="worker:1", **NEW_SHELL)
    assert '-> "rate(1 minute)"' in ran.output
    assert (
        "By the tags, release 1.2.0 was deployed last, which records none: if you have changed a setting" in ran.errors
    )


def kept_settings(account: PaperAccount) -> dict[str, str]:
    """What the newest revision says of the settings that it was made with."""
    (container,) = Compared(account.kept, APP).newest_task()["containerDefinitions"]
    found = json.loads(container["dockerLabels"]["s3-to-s3express-sync.settings"])
    return {name: value for name, value in found.items() if name != "VERSION"}
