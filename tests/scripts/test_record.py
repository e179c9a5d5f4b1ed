"""A deployment keeps its settings: a run that names none of them changes none, and nothing else has to be known.

On an account on paper (documents.py), where a setting that is given to a run counts as named in its environment, and
one that is assigned counts as edited in deploy.sh. The oldest jq takes a deployment's settings from what it shows.
"""

import copy
import json
import random
import re
import shlex
from typing import Any

import pytest
from account import APP, MIRROR, REGION, SOURCE
from authorized import grants
from documents import OLDEST_JQ, STEPS, Ran, Scripts, scripts_of_module
from observers import operated
from operated import Operated, Verbs, verbs
from paper_account import NUMBER, PaperAccount
from test_documents import ELSEWHERE, FULL, RULES

from mirror.version import VERSION

__all__ = ["verbs"]
LABEL = "s3-to-s3express-sync.settings"
# As in a new shell and a fresh clone, where deploy.sh has the buckets of its template.
NOTHING = {"SRC_BUCKET": "", "DST_BUCKET": ""}
BUCKETS = {"SRC_BUCKET": SOURCE, "DST_BUCKET": MIRROR}
ALL = FULL | RULES
# Of these, what says which deployment is meant, and what is of one build.
KEPT = {name: value for name, value in ALL.items() if name not in ("APP_NAME", "DOCKER_BUILD_FLAGS")}
RECORD = "ListTaskDefinitions"  # the call that finds it
# What nothing shows of a deployment without a record.
NOT_SHOWN = {"CREATE_VPC_ENDPOINTS", "ROLE_BOUNDARY_ARN", "IMAGE_URI"}


scripts = scripts_of_module()
with_oldest_jq = scripts_of_module(tools=OLDEST_JQ)


@pytest.fixture(scope="module")
def kept(scripts: Scripts) -> dict[str, Any]:
    """What an account has after a deployment with every option; how deploy.sh was called is none."""
    return scripts.with_deployment(**ALL, VIA=" --local").kept


def worker(kept: dict[str, Any], app: str = APP) -> dict[str, Any]:
    """The container of the newest task definition."""
    names = [name for name in kept if name.startswith(f"task {app}-task:")]
    (container,) = kept[max(names, key=lambda name: int(name.rpartition(":")[2]))]["containerDefinitions"]
    return container  # type: ignore[no-any-return]


def record(kept: dict[str, Any], app: str = APP) -> dict[str, str]:
    labels = worker(kept, app)["dockerLabels"]
    found = json.loads("".join(labels[name] for name in sorted(labels, key=lambda name: (len(name), name))))
    assert found.pop("VERSION") == VERSION
    return found  # type: ignore[no-any-return]


def having(kept: dict[str, Any], *refused: str) -> Operated:
    return operated(copy.deepcopy(kept), *refused)


def changes(ran: Ran) -> list[str]:
    return re.findall(r"^\[.*?\] (.*: (?:changed|created|removed).*)$", ran.output, re.MULTILINE)


def test_a_run_that_names_nothing_changes_nothing(scripts: Scripts, kept: dict[str, Any]) -> None:
    scripts.account = having(kept)
    assert record(kept) == KEPT | BUCKETS
    ran = scripts.run("PLAN_FORMAT=json DETAILED_EXITCODE=true DRY_RUN=true; deploy_all", **NOTHING)
    assert (json.loads(ran.output)["changes"], ran.writes) == (0, [])
    told = dict(re.findall(r"^kept: (\w+)=(.*?)(?: \(deploy.sh says .*)?$", ran.errors, re.MULTILINE))
    assert told == record(kept)
    assert "kept: LAMBDA_POLL_RATE=5 (deploy.sh says 1; LAMBDA_POLL_RATE= ./deploy.sh takes it)\n" in ran.errors
    assert scripts.step("ensure_task_definition", **ALL).writes == []  # nor does one that names all of it again


def test_a_deployment_in_a_pause_does_not_end_it(scripts: Scripts, kept: dict[str, Any]) -> None:
    scripts.account = having(kept)
    variables = scripts.account.kept[f"function {APP}-starter"]["Environment"]["Variables"]
    variables["PAUSED_SINCE"] = since = "2026-11-25T11:00:00Z"
    ran = scripts.step("ensure_function", **NOTHING, MAX_WORKERS="7")
    found = scripts.account.kept[f"function {APP}-starter"]["Environment"]["Variables"]
    assert (found["PAUSED_SINCE"], found["MAX_WORKERS"]) == (since, "7")
    assert f"the sync has been paused since {since}, and stays paused until ./sync.sh resume" in ran.errors


# --- which value counts ---------------------------------------------------------------------------------------------

DEFAULTS = {"LAMBDA_POLL_RATE": "1", "EXCLUDE": "", "MAX_RECEIVES": "3", "ALARM_EMAIL": "", "TASK_ARCH": "ARM64"}
VALUES = {
    "LAMBDA_POLL_RATE": ("1", "5", "15"),
    "EXCLUDE": ("*.tmp", "a b,$x'\"\\,é"),
    "MAX_RECEIVES": ("3", "9"),
    "ALARM_EMAIL": ("a@example.com", "b@example.com"),
    "TASK_ARCH": ("ARM64", "X86_64"),
}


def test_any_runs_one_after_another_end_with_what_was_said_last(scripts: Scripts) -> None:
    """Several people, each with what the shell names, what it empties, and what deploy.sh was edited to."""
    said, want = random.Random(39), dict[str, str]()
    scripts.account = PaperAccount()
    for _ in range(12):
        named, edited = {}, {}
        for name, values in VALUES.items():
            match said.choice(("named", "emptied", "edited", "left", "left", "left")):
                case "named":
                    named[name] = want[name] = said.choice(values)
                case "emptied":
                    named[name] = ""
                    want.pop(name, None)
                case "edited":
                    edited[name] = said.choice(values)
                    if edited[name] != DEFAULTS[name]:
                        want[name] = edited[name]
        assigned = " ".join(f"{name}={shlex.quote(value)}" for name, value in edited.items())
        scripts.run(f"{assigned}\n{STEPS.format('ensure_task_definition')}", **named)
        found = record(scripts.account.kept)
        # A default that was named and is emptied changes nothing, so its record may stay.
        assert found.items() >= (want | BUCKETS).items(), (named, edited)
        assert {name: found[name] for name in found.keys() - (want | BUCKETS).keys()}.items() <= DEFAULTS.items()


def test_an_emptied_setting_takes_its_default_and_the_plan_shows_from_what(
    scripts: Scripts, kept: dict[str, Any]
) -> None:
    scripts.account = having(kept)
    other = {"KEEP_DAYS": "", "LAMBDA_POLL_RATE": "", "ALARM_EMAIL": "new@example.com", "DRY_RUN": "true"}
    ran = scripts.step("ensure_task_definition", **NOTHING, **other)
    shown = re.findall(r"containerDefinitions.worker.settings.(\w+: .*)", ran.output)
    assert shown == [
        'ALARM_EMAIL: "ops@example.com" -> "new@example.com"',
        'KEEP_DAYS: "30" -> ""',
        'LAMBDA_POLL_RATE: "5" -> "1"',
    ]


def test_an_image_is_kept_by_its_own_release_only(scripts: Scripts) -> None:
    """An old worker does not go with a new starter."""
    scripts.account = PaperAccount()
    scripts.step("ensure_task_definition", IMAGE_URI="worker:1")
    assert scripts.step("ensure_task_definition", **NOTHING).writes == []
    container = worker(scripts.account.kept)
    container["dockerLabels"][LABEL] = container["dockerLabels"][LABEL].replace(VERSION, "1.0.9")
    ran = scripts.deploy(**NOTHING)
    assert "not kept: IMAGE_URI=worker:1, because release 1.0.9 was deployed: an image of this release" in ran.errors
    assert worker(scripts.account.kept)["image"] != "worker:1"
    assert "IMAGE_URI" not in record(scripts.account.kept)


# --- a long record ----------------------------------------------------------------------------------------------------

MOST = 4096  # bytes of a label with its key, which containerd takes (containerd, labels/validate.go)
LETTERS = "abcdefghij\u00e9\u00fc\u6a21\u578b\U00020000"


def drawn_text(draw: random.Random, length: int) -> str:
    return "".join(draw.choices(LETTERS, k=length))


def drawn_settings(draw: random.Random) -> dict[str, str]:
    def text(most: int) -> str:
        return drawn_text(draw, draw.randrange(most))

    tags = [f"k{number}={text(200)}" for number in range(draw.randrange(48))]
    prefixes = [f"{number}{text(30)}/" for number in range(draw.randrange(1, 21))]
    keys = [f"arn:aws:kms:{REGION}:{NUMBER}:key/{number}" for number in range(draw.randrange(51))]
    return {"TAGS": ",".join(tags), "PREFIX_FILTER": ",".join(prefixes), "SRC_KMS_KEY_ARN": ",".join(keys)}


def with_bytes(size: int) -> dict[str, str]:
    """Settings whose record has this many bytes with its key."""
    settings = {"TAGS": ",".join(f"k{n}={'v' * 200}" for n in range(19)) + ",last="}
    written = json.dumps(settings | BUCKETS | {"VERSION": VERSION}, separators=(",", ":"))
    settings["TAGS"] += "x" * (size - len(LABEL) - len(written))
    return settings


DRAWN = {f"drawn {seed}": drawn_settings(random.Random(seed)) for seed in (1, 5, 9)}
LONG = {"as long as one may be": with_bytes(MOST), "a byte longer": with_bytes(MOST + 1), **DRAWN}


@pytest.mark.parametrize("case", LONG)
def test_a_record_of_any_length_is_kept_in_labels_that_containerd_takes(
    scripts: Scripts, with_oldest_jq: Scripts, case: str
) -> None:
    """In the one that release 1.3.0 reads, if it is long enough."""
    settings = {name: value for name, value in LONG[case].items() if value}
    account = with_oldest_jq.account = scripts.account = PaperAccount()
    with_oldest_jq.step("ensure_task_definition", **settings)
    labels = worker(account.kept)["dockerLabels"]
    sizes = {name: len(text.encode()) for name, text in labels.items()}
    assert [name for name, size in sizes.items() if len(name) + size > MOST] == []
    assert (list(labels) == [LABEL]) == (len(LABEL) + sum(sizes.values()) <= MOST)
    assert record(account.kept) == settings | BUCKETS
    assert scripts.step("ensure_task_definition", **NOTHING).writes == []
    if len(labels) > 1:  # an incomplete one is none: nothing of it is kept
        del labels[random.Random(case).choice(sorted(labels))]
        ran = scripts.run("start_run; check_account; tell_of_kept", **BUCKETS)
        assert "the deployment has no record of its settings yet" in ran.errors
        assert "k1=" not in ran.errors


# --- the buckets ----------------------------------------------------------------------------------------------------

OTHER = MIRROR.replace("mirror", "other")


def test_another_destination_is_refused_with_the_way_to_move(scripts: Scripts, kept: dict[str, Any]) -> None:
    scripts.account = having(kept)
    ran = scripts.run("deploy_all", 2, DST_BUCKET=OTHER)
    assert (
        f"DST_BUCKET={OTHER}, but what is deployed copies to {MIRROR}: leave DST_BUCKET out; or, to move" in ran.errors
    )
    assert "run ./cleanup.sh, then ./deploy.sh with the new DST_BUCKET, then ./sync.sh reconcile" in ran.errors
    assert ran.writes == []


def test_the_keys_and_the_owner_of_a_bucket_are_not_those_of_another_one(scripts: Scripts) -> None:
    scripts.account = PaperAccount()
    settings = ELSEWHERE | {"APP_NAME": APP, "SRC_KMS_KEY_ARN": FULL["SRC_KMS_KEY_ARN"]}
    scripts.step("ensure_task_definition", **settings)
    script = 'start_run; check_account; printf "%s\\n" "$SRC_BUCKET_OWNER" "$SRC_KMS_KEY_ARN" "$DST_BUCKET_OWNER"'
    ran = scripts.run(script, **NOTHING | {"SRC_BUCKET": "new-source"})
    assert ran.output.split("\n") == [NUMBER, "", ELSEWHERE["DST_BUCKET_OWNER"], ""]


def test_without_the_right_to_read_the_record_nothing_is_deployed(scripts: Scripts, kept: dict[str, Any]) -> None:
    scripts.account = having(kept, RECORD)
    ran = scripts.run("deploy_all", 1)
    assert "aws ecs list-task-definitions failed" in ran.errors
    assert ran.writes == []


# Settings, exit status, what is printed or said.
FOUND = f"{SOURCE} {MIRROR}"
VERBS = {
    "nothing is named": (NOTHING, 0, FOUND),
    "the same is named": (BUCKETS, 0, FOUND),
    "another source": (
        {**NOTHING, "SRC_BUCKET": "other"},
        2,
        f"SRC_BUCKET=other, but what is deployed has {SOURCE}: leave SRC_BUCKET out",
    ),
    "another destination": (
        {**NOTHING, "DST_BUCKET": OTHER},
        2,
        f"DST_BUCKET={OTHER}, but what is deployed has {MIRROR}: leave DST_BUCKET out",
    ),
    "nothing is there": ({**NOTHING, "APP_NAME": "other"}, 2, "DST_BUCKET are, was not found in account"),
    "buckets are named, and the record may not be read": (BUCKETS, 0, FOUND),
    "the record may not be read": (
        NOTHING,
        2,
        "which would say what SRC_BUCKET and DST_BUCKET are, could not be read in account",
    ),
}


@pytest.mark.parametrize("case", VERBS)
def test_a_verb_knows_the_buckets_of_its_deployment(verbs: Verbs, kept: dict[str, Any], case: str) -> None:
    settings, status, said = VERBS[case]
    denied = "may not be read" in case
    verbs.account = having(kept, *[RECORD] * denied)
    done = verbs.sync("status --json", None, **settings)
    assert (done.status == 2) == (status == 2), done.errors
    found = f"{done.json['source']['name']} {done.json['destination']['name']}" if status == 0 else done.errors
    assert said in found
    assert "your-standard-bucket" not in done.output + done.errors
    assert ("aws ecs list-task-definitions failed: " in done.errors) == denied


def test_a_policy_is_that_of_the_deployment(scripts: Scripts, kept: dict[str, Any]) -> None:
    scripts.account = having(kept)
    said = [scripts.deploy("--policy", "operator", **settings).output for settings in (ALL, NOTHING)]
    assert grants(json.loads(said[0])) == grants(json.loads(said[1]))


def test_cleaning_up_needs_no_settings_until_its_end_and_says_how_to_deploy_the_same_again(
    scripts: Scripts, kept: dict[str, Any]
) -> None:
    """What interrupts it leaves the record."""
    account = scripts.account = having(kept, "DeleteBucketPolicy")
    ran = scripts.clean_up(status=1, **NOTHING)
    assert f"task definition {APP}-task: NOT removed, because a next run needs it to remove the rest" in ran.output
    account.denied.clear()
    ran = scripts.clean_up(**NOTHING)
    assert [name for name in account.kept if APP in name and not name.startswith("image")] == []
    (command,) = re.findall(r"^To deploy the same again:\n  (.*)$", ran.output, re.MULTILINE)
    *settings, script = shlex.split(command)
    assert script == "./deploy.sh"
    assert dict(word.split("=", 1) for word in settings) == record(kept) | {"REGION": REGION}


# --- a deployment whose revisions are gone ----------------------------------------------------------------------------


def deregistered(kept: dict[str, Any]) -> Operated:
    """As a program that tidies up leaves it."""
    account = having(kept)
    for task in account.of_kind("task"):
        task["status"] = "INACTIVE"
    return account


def test_with_all_revisions_deregistered_the_newest_of_them_says_what_is_deployed(
    scripts: Scripts, verbs: Verbs, kept: dict[str, Any]
) -> None:
    said = f"the settings are those of {APP}-task:1, the newest inactive one"
    verbs.account = deregistered(kept)
    done = verbs.sync("status --json", None, **NOTHING)
    assert (done.json["source"]["name"], done.json["destination"]["name"]) == (SOURCE, MIRROR)
    assert said in done.errors
    verbs.sync("pause", **NOTHING)

    account = scripts.account = deregistered(kept)
    ran = scripts.deploy(**BUCKETS)
    assert said in ran.errors
    assert changes(ran) == [f"task definition {APP}-task: created"]
    assert record(account.kept) == KEPT | BUCKETS

    account = scripts.account = deregistered(kept)
    ran = scripts.clean_up(**NOTHING)
    assert [name for name in account.kept if APP in name and not name.startswith("image")] == []
    assert "To deploy the same again:" in ran.output


def test_with_all_revisions_deleted_the_function_says_what_is_deployed(
    scripts: Scripts, verbs: Verbs, kept: dict[str, Any]
) -> None:
    said = f"no revision of the task definition {APP}-task is left: the settings are what the function and"
    kept = {name: one for name, one in kept.items() if not name.startswith("task ")}
    verbs.account = having(kept)
    done = verbs.sync("status --json", None, **NOTHING)
    assert (done.json["source"]["name"], done.json["destination"]["name"]) == (SOURCE, MIRROR)
    assert said in done.errors

    account = scripts.account = having(kept)
    ran = scripts.deploy(**NOTHING)
    assert said in ran.errors
    found = record(account.kept)
    lost = {name for name, value in KEPT.items() if found.get(name, DEFAULTS.get(name)) != value} - {"TAGS"}
    assert lost == {"TASK_CPU", "TASK_MEMORY", "PROCESSES", "S3_CLIENT", "CREATE_VPC_ENDPOINTS", "ROLE_BOUNDARY_ARN"}
    (named,) = re.findall(r"^nothing shows (.*): deploy.sh's own values", ran.errors, re.MULTILINE)
    assert lost <= set(named.split(", "))

    account = scripts.account = having(kept)
    scripts.clean_up(**NOTHING)
    assert [name for name in account.kept if APP in name and not name.startswith("image")] == []


def test_after_a_removal_nothing_is_remembered(scripts: Scripts, kept: dict[str, Any]) -> None:
    """Not even if its revisions are still there, because the deletion of them was interrupted."""
    account = scripts.account = deregistered({name: one for name, one in kept.items() if name.startswith("task ")})
    scripts.run("deploy_all", 2, **NOTHING)  # which buckets?
    scripts.step("ensure_task_definition")
    assert record(account.kept) == BUCKETS


# --- two deployments at once, and another release ---------------------------------------------------------------------


class Beside(Operated):
    """In which another deployment registers a revision of its own before or after that of this run, or none."""

    when = "before"

    def answer(self, call: Any) -> Any:
        if call.operation != "RegisterTaskDefinition":
            return super().answer(call)
        theirs = call._replace(parameters=call.parameters | {"tags": []})
        calls = {"before": [theirs, call], "after": [call, theirs], "not at all": [call]}[self.when]
        answers = {id(one): super(Beside, self).answer(one) for one in calls}
        return answers[id(call)]


@pytest.mark.parametrize(("when", "said"), [("before", [2]), ("after", [3]), ("not at all", [])])
def test_a_deployment_that_ran_beside_this_one_is_named(
    scripts: Scripts, kept: dict[str, Any], when: str, said: list[int]
) -> None:
    account = scripts.account = Beside()
    account.kept, account.when = copy.deepcopy(kept), when
    ran = scripts.deploy(**NOTHING, KEEP_DAYS="7")
    named = re.findall(rf"another deployment ran beside this one and registered {APP}-task:(\d+): settings", ran.errors)
    assert list(map(int, named)) == said


# --- a deployment without a record ----------------------------------------------------------------------------------

# By itself, PROCESSES is one for each vCPU.
THEIRS = ELSEWHERE | {"SUBNETS": "subnet-3,subnet-4", "DASHBOARD": "false", "TASK_CPU": "4096", "TASK_MEMORY": "8192"}
# What it was deployed with, and what is there instead of a record.
WITHOUT_RECORD = {"every option": (ALL, {LABEL: '["no", {"record"'}), "elsewhere": (THEIRS, {})}


@pytest.mark.parametrize("case", WITHOUT_RECORD)
def test_what_a_deployment_without_a_record_shows_is_taken_in_one_run(
    scripts: Scripts, with_oldest_jq: Scripts, kept: dict[str, Any], case: str
) -> None:
    """But not what somebody may have broken."""
    settings, labels = WITHOUT_RECORD[case]
    app = settings.get("APP_NAME", APP)
    account = having(kept if app == APP else scripts.with_deployment(**settings).kept)
    want = record(account.kept, app)
    worker(account.kept, app)["dockerLabels"] = labels
    queue = account.kept[f"queue {app}-q"]["Attributes"]
    visibility = queue["VisibilityTimeout"]
    queue["VisibilityTimeout"] = "50"
    named = {name: value for name, value in settings.items() if name in NOT_SHOWN}
    by = with_oldest_jq if case == "every option" else scripts
    by.account = account
    ran = by.deploy(**NOTHING | {"APP_NAME": app} | named)
    assert sorted(changes(ran)) == [
        f"queue {app}-q: changed (VisibilityTimeout)",
        f"task definition {app}-task: changed (containerDefinitions)",
    ]
    assert queue["VisibilityTimeout"] == visibility
    assert "the deployment has no record of its settings yet" in ran.errors
    assert "nothing shows BASE_IMAGE, " in ran.errors
    if "TAGS" in want:  # as a tag has it, without blanks
        want["TAGS"] = ",".join("=".join(part.strip() for part in tag.split("=")) for tag in want["TAGS"].split(","))
    assert record(account.kept, app) == {name: value for name, value in want.items() if value != DEFAULTS.get(name)}
