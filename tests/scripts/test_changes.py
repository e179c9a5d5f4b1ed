"""deploy.sh after something changed: a setting, the code, the address of the alarms, a role."""

import re
import subprocess
import zipfile
from pathlib import Path

from account import APP, PREFIX, PROJECT, SOURCE, Account, copy_project
from deployment import CHANGED, one_cli, one_cloud, states

IMAGE = ("ensure_repository", "ensure_image", "ensure_task_definition")


CHANGED_SETTINGS = {
    ("MAX_WORKERS", "3"): {f"function {APP}-starter": "Environment"},
    ("LAMBDA_POLL_RATE", "5"): {
        f"rule {APP}-starter-rule": "ScheduleExpression",
        f"alarm {APP}-starter-fails": "EvaluationPeriods",
        f"alarm {APP}-starter-silent": "AlarmDescription, Period",
    },
    ("PREFIX_FILTER", "models/a b/"): {
        f"role {APP}-task-role": "policy",
        f"task definition {APP}-task": "containerDefinitions",
        f"notification {SOURCE} {APP}": "events or filter",
    },
    ("TASK_MEMORY", "8192"): {f"task definition {APP}-task": "memory"},
    ("MULTIPART_THRESHOLD", "104857600"): {f"task definition {APP}-task": "containerDefinitions"},
    ("VISIBILITY_TIMEOUT", "3600"): {
        f"queue {APP}-q": "VisibilityTimeout",
        f"task definition {APP}-task": "containerDefinitions",
    },
    ("LOG_RETENTION_DAYS", "7"): {
        f"log group /aws/lambda/{APP}-starter": "retention",
        f"log group /ecs/{APP}-task": "retention",
    },
    ("DST_KMS_KEY_ARN", "arn:aws:kms:us-east-1:123456789012:key/1"): {f"role {APP}-task-role": "policy"},
    ("ALARM_AGE_SECONDS", "600"): {f"alarm {APP}-behind": "AlarmDescription, Threshold"},
    ("S3_CLIENT", "boto3"): {f"task definition {APP}-task": "containerDefinitions"},
}


@one_cloud
@one_cli
def test_new_code_is_a_new_image_and_a_new_function(account: Account) -> None:
    account.deployed()
    image, function = ["created", "changed"], ["changed"]
    files = {"worker.py": image, "mirror/__init__.py": image, "starter.py": function, "launch/calls.py": function}
    for file, expected in files.items():
        with (account.project / file).open("a") as source:
            source.write("# changed\n")
        output, _ = account.steps(*IMAGE, "ensure_function", IMAGE_URI="")
        assert [state for state in states(output) if state != "exists"] == expected, output
    output, _ = account.run("deploy.sh")
    assert set(states(output)) == {"exists"}


def ask_script(project: Path, *command: str) -> str:
    """What a function of deploy.sh prints in a copy of the project."""
    script = 'source "$0/deploy.sh"; start_run; "$@"'
    return subprocess.run(["bash", "-c", script, project, *command], capture_output=True, text=True, check=True).stdout


def test_the_tag_of_the_image_depends_on_what_stands_in_which_file(tmp_path: Path) -> None:
    project = copy_project(tmp_path)
    worker, module = project / "worker.py", project / "mirror/extra/module.py"
    tags = [ask_script(project, "fact", "image_inputs")]
    worker.write_text("# first\n# second\n")
    tags.append(ask_script(project, "fact", "image_inputs"))
    module.parent.mkdir()
    module.write_text("# second\n")
    worker.write_text("# first\n")
    tags.append(ask_script(project, "fact", "image_inputs"))
    module.rename(module.with_name("renamed.py"))
    tags.append(ask_script(project, "fact", "image_inputs"))
    assert len(set(tags)) == len(tags)
    (project / "mirror/extra/notes.txt").write_text("is not in the image's inputs")
    assert ask_script(project, "fact", "image_inputs") == tags[-1]


def test_the_archive_of_the_starter_holds_its_files_and_is_the_same_everywhere(tmp_path: Path) -> None:
    archive = tmp_path / "starter.zip"
    first = ask_script(PROJECT, "zip_starter", str(archive))
    with zipfile.ZipFile(archive) as file:
        launch = [f"launch/{path.name}" for path in (PROJECT / "launch").glob("*.py")]
        assert file.namelist() == sorted(["starter.py", *launch])
        assert file.read("starter.py") == (PROJECT / "starter.py").read_bytes()
    assert ask_script(PROJECT, "zip_starter", str(tmp_path / "again.zip")) == first


@one_cloud
@one_cli
def test_a_changed_setting_changes_only_what_depends_on_it(account: Account) -> None:
    account.deployed()
    output, _ = account.run("deploy.sh", **dict(CHANGED_SETTINGS.keys()))
    wanted: dict[str, set[str]] = {}
    for expected in CHANGED_SETTINGS.values():
        for resource, what in expected.items():
            wanted.setdefault(resource, set()).update(what.split(", "))
    assert {resource: set(what.split(", ")) for resource, what in re.findall(CHANGED, output)} == wanted

    back = dict.fromkeys(dict(CHANGED_SETTINGS.keys()), "") | {"PREFIX_FILTER": PREFIX}
    output, _ = account.run("deploy.sh", "--dry-run", **back)
    assert dict(re.findall(CHANGED, output.replace("would change", "changed"))).keys() == wanted.keys()
    assert account.recorder.writes == []
    notification = account.client("s3").get_bucket_notification_configuration(Bucket=SOURCE)["QueueConfigurations"]
    assert sorted(found["Id"] for found in notification) == [APP, "theirs"]
