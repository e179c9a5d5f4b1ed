"""./sync.sh cost --reads: what it reports beside the requests that were made, what it turns on, off and leaves."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from account import APP, MIRROR
from documents import Scripts, sourced_scripts
from paper_account import PaperAccount
from sourced import OLDEST_JQ

ROOT = Path(__file__).parents[2]
GB, DAY, BEGAN = 10**9, 86_400, 1_795_000_000
OURS = "s3-to-s3express-sync-reads-"
OLD, NEW = "2026-01-01T00:00:00+00:00", "2026-11-17T00:00:00+00:00"
OBJECTS = {
    "models/v1/a": (60 * GB, OLD),
    "models/v2/a b": (40 * GB, NEW),
    "logs[1], old/x": (300 * GB, OLD),
    "tmp/y": (GB, NEW),
    "top": (2 * GB, NEW),
}
THEIRS = {"EntireBucket": ""}
SCRIPT = r"""
source "$0/sync.sh"
now() { printf '%s\n' "$NOW"; }
eval "$1"
"""


class Mirror:
    """A destination with filters, on paper, and the requests of its readers."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "state.json"
        (folder / "bin").mkdir()
        (folder / "bin/aws").symlink_to(ROOT / "tests/scripts/reads_aws.py")
        self.path = f"{folder}/bin:{OLDEST_JQ}:{os.environ['PATH']}"
        self.now = BEGAN
        self.change(
            bucket=MIRROR, version="1.46.3", objects=OBJECTS, filters=THEIRS, ever={}, requests=[], denied=[],
            puts_left=1000, changes={},
        )  # fmt: skip

    def state(self) -> dict[str, Any]:
        return json.loads(self.file.read_text()) if self.file.exists() else {}

    def change(self, **fields: Any) -> None:
        self.file.write_text(json.dumps(self.state() | fields))

    def read(self, key: str, times: int = 1) -> None:
        self.change(requests=[*self.state()["requests"], *([key, OBJECTS[key][0]] for _ in range(times))])

    def run(self, command: str, status: int = 0, **settings: str) -> tuple[str, str]:
        given = {"REGION": "us-east-1", "SRC_BUCKET": "source", "DST_BUCKET": MIRROR, "NOW": str(self.now)}
        done = subprocess.run(
            ["bash", "-c", SCRIPT, ROOT, command],
            env={"PATH": self.path, "READS_STATE": str(self.file), **given, **settings},
            stdin=subprocess.DEVNULL, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == status, done.stderr
        return done.stdout, done.stderr

    def report(self, options: str = "") -> dict[str, Any]:
        return json.loads(self.run(f"verb_cost --reads 7 --json {options}")[0])

    def ours(self) -> set[str]:
        return {folder for name, folder in self.state()["filters"].items() if name.startswith(OURS)}


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    return Mirror(tmp_path)


def test_it_says_what_was_read_and_what_the_rest_costs_and_turns_itself_off(mirror: Mirror) -> None:
    mirror.read("logs[1], old/x")  # before it was turned on
    _, said = mirror.run("verb_cost --reads 7 --top 2 --yes")
    assert "request metrics of 2 folders for 7 days cost at most 1.80 USD" in said
    assert mirror.ours() == {"logs[1], old/", "models/"}
    mirror.read("models/v1/a", 3)
    mirror.read("models/v2/a b")
    mirror.read("top")
    mirror.now += 6 * DAY
    found = mirror.report()
    assert found["hours"] == 6 * 24
    rows = [(row["folder"], row["stored_gb"], row["read_gb"], row["gets"], row["usd"]) for row in found["rows"]]
    assert rows == [("logs[1], old/", 300, 0, 0, 33), ("models/", 100, 220, 4, 11)]
    assert [row["lever"] for row in found["rows"]] == ["EXCLUDE=logs[[]1]\\, old/*", None]
    assert {one["lever"]: one["saves_usd"] for one in found["levers"]} == {
        "PREFIX_FILTER=models/": pytest.approx(303 * 0.11),
        "KEEP_DAYS=30": pytest.approx(360 * 0.11),
    }
    assert len(mirror.ours()) == 2
    mirror.now += DAY
    text, said = mirror.run("verb_cost --reads 7")
    assert "turned off" in said
    assert max(map(len, text.splitlines())) <= 80
    assert '300.00        0.00          0      33.00  "logs[1], old/"' in text
    assert mirror.state()["filters"] == {"EntireBucket": ""}


def test_what_is_not_seen_in_the_name_of_a_folder_reaches_no_terminal(mirror: Mirror) -> None:
    mirror.change(objects={"a\u202e\u009bb/x": (GB, OLD)})
    _, turned_on = mirror.run("verb_cost --reads 7 --yes")
    assert mirror.ours() == {"a\u202e\u009bb/"}
    found, _ = mirror.run("start_verb; list_request_metrics")
    for said in (turned_on, found):
        assert '"a\\u202e\\u009bb/"' in said


def test_folders_that_overlap_are_each_counted_and_saved_once(mirror: Mirror) -> None:
    mirror.run("verb_cost --reads 3 --folders models/,models/v1/,tmp/ --yes")
    mirror.read("models/v1/a", 2)
    mirror.read("models/v2/a b")
    mirror.now += DAY
    found = mirror.report()
    assert {row["folder"]: (row["read_gb"], row["gets"]) for row in found["rows"]} == {
        "models/": (160, 3),
        "models/v1/": (120, 2),
        "tmp/": (0, 0),
    }
    (prefixes,) = (one for one in found["levers"] if one["lever"].startswith("PREFIX_FILTER"))
    assert (prefixes["lever"], prefixes["saves_usd"]) == ("PREFIX_FILTER=models/", pytest.approx(303 * 0.11))


def test_if_one_is_refused_those_before_it_are_turned_off(mirror: Mirror) -> None:
    mirror.change(puts_left=1)
    _, said = mirror.run("verb_cost --reads 7 --yes", 1)
    assert "the request metrics are turned off\n" in said
    assert (len(mirror.state()["ever"]), mirror.ours()) == (1, set())


def test_status_is_given_until_when_they_are_on(mirror: Mirror) -> None:
    mirror.run("verb_cost --reads 7 --folders models/ --yes")
    assert json.loads(mirror.run("start_verb; describe_request_metrics")[0]) == {
        "folders": 1,
        "until": "2026-11-25T11:06:40Z",
    }


@pytest.mark.parametrize(("days", "stays"), [(3, True), (2, False)])
def test_a_deployment_turns_off_those_whose_days_are_over(
    cleaning: tuple[Scripts, Scripts], days: int, stays: bool
) -> None:
    _, deploy = cleaning
    ids = {f"{OURS}{int(time.time()) - 2 * DAY}-{days}-1": "a/", "theirs": "b/"}
    deploy.account.kept[f"request-metrics {MIRROR}"] = dict(ids)
    ran = deploy.deploy()
    assert (f"request metrics {MIRROR}: changed (removed, because their days are over)" in ran.output) is not stays
    assert filters(deploy.account).keys() == (ids.keys() if stays else {"theirs"})


# What cost says if somebody has turned the metrics off since it has read which are on.
MEANWHILE = {"": "were turned off in the meantime, by ./cleanup.sh or another run of cost", "--stop": "are turned off"}


@pytest.mark.parametrize("option", MEANWHILE)
def test_a_report_during_which_they_are_removed_says_so(mirror: Mirror, option: str) -> None:
    mirror.run("verb_cost --reads 7 --yes")
    mirror.change(changes={"get-metric-data": {"filters": THEIRS}})
    text, said = mirror.run(f"verb_cost --reads 7 {option}")
    assert "GB stored" in text
    assert f"the request metrics {MEANWHILE[option]}\n" in said
    assert mirror.state()["filters"] == {"EntireBucket": ""}
    _, said = mirror.run("verb_cost --reads 7 --stop", 1)
    assert "nothing to stop: ./sync.sh cost --reads has turned on no request metrics" in said


SECOND = {"APP_NAME": "second-sync"}
OLD_ID = f"{OURS}{BEGAN - DAY}-7-1"  # without APP_NAME


def test_two_deployments_with_one_destination_are_kept_apart_and_old_ids_are_found(mirror: Mirror) -> None:
    mirror.run("verb_cost --reads 7 --folders models/ --yes")
    mirror.run("verb_cost --reads 5 --folders tmp/,models/ --yes", **SECOND)
    assert len(mirror.state()["filters"]) == 1 + 3
    first, second = (json.loads(mirror.run("verb_cost --reads 7 --json", **app)[0]) for app in ({}, SECOND))
    assert [[row["folder"] for row in one["rows"]] for one in (first, second)] == [["models/"], ["models/", "tmp/"]]
    state = mirror.state()
    mirror.change(filters=state["filters"] | {OLD_ID: "old/"}, ever=state["ever"] | {OLD_ID: ["old/", 0]})
    mirror.run("verb_cost --reads 7 --stop", **SECOND)
    assert sorted(mirror.state()["filters"].values()) == ["", "models/"]


def test_options_without_an_effect_while_they_are_on_are_named(mirror: Mirror) -> None:
    mirror.run("verb_cost --reads 7 --yes")
    _, said = mirror.run("verb_cost --reads 9 --top 3 --folders a/")
    assert (
        "the request metrics of 3 folders are on already, so this has no effect until --stop: "
        "--reads 9, because they were turned on for 7 days; --folders; --top\n"
    ) in said
    _, said = mirror.run("verb_cost --reads 7")
    assert "no effect" not in said


def test_a_long_folder_has_a_line_of_its_own(mirror: Mirror) -> None:
    names = [f"{'folder ' * count}/" for count in (4, 9)]
    mirror.change(objects={f"{name}a": (GB, OLD) for name in names})
    mirror.run("verb_cost --reads 7 --yes")
    assert "not read" not in mirror.run("verb_cost --reads 7")[0]  # before CloudWatch has figures
    mirror.now += DAY
    text, _ = mirror.run("verb_cost --reads 7")
    assert max(map(len, text.splitlines())) <= 80
    assert all(f"  {json.dumps(name)}\n" in text and f"  EXCLUDE={name}*\n" in text for name in names), text


@pytest.fixture
def cleaning(tmp_path: Path) -> Iterator[tuple[Scripts, Scripts]]:
    """Two shells in one account: for cost, and for cleanup.sh."""
    for name in ("cost", "cleanup"):
        (tmp_path / name).mkdir()
    with sourced_scripts(tmp_path / "cost", "sync.sh") as cost, sourced_scripts(tmp_path / "cleanup") as cleanup:
        cost.account = cleanup.account
        cleanup.deploy()
        yield cost, cleanup


def test_a_report_after_which_they_cannot_be_listed_says_that_they_may_be_on(mirror: Mirror) -> None:
    mirror.run("verb_cost --reads 7 --yes")
    mirror.change(changes={"get-metric-data": {"denied": ["list-bucket-metrics-configurations"]}})
    text, said = mirror.run("verb_cost --reads 7", 1)
    assert "GB stored" in text
    assert "the request metrics may still be on: " in said
    assert "Access Denied" in said


def test_a_whole_run_of_cleanup_while_they_are_turned_on_leaves_nothing(cleaning: tuple[Scripts, Scripts]) -> None:
    cost, cleanup = cleaning
    account = cost.account

    def clean_up() -> None:
        assert len(filters(account)) == 1
        cleanup.run("ASSUME_YES=true; cleanup_all")

    account.before = {"PutBucketMetricsConfiguration": [lambda: None, clean_up]}
    ran = cost.run("verb_cost --reads 7 --folders a/,b/,c/ --yes", 1)
    assert len(ran.sent("PutBucketMetricsConfiguration")) == 3
    assert "the request metrics are turned off\n" in ran.errors
    assert f"the deployment {APP} was removed in the meantime\n" in ran.errors
    assert filters(account) == {}
    assert "nothing of" in cleanup.run("ASSUME_YES=true; cleanup_all").output


def filters(account: PaperAccount) -> dict[str, str]:
    return account.kept.get(f"request-metrics {MIRROR}", {})


def test_nothing_is_turned_on_without_a_yes(mirror: Mirror) -> None:
    _, said = mirror.run("verb_cost --reads 30", 1)
    assert "10 folders for 30 days cost at most 38.47 USD" in said
    assert "nothing was turned on" in said
    assert mirror.ours() == set()


@pytest.mark.parametrize(
    ("changes", "settings", "complaint"),
    [
        (
            {"version": "2.23.6"},
            {},
            "AWS CLI 2.23.6 does not know request metrics of directory buckets: install 2.34.21",
        ),
        ({"version": "1.44.69"}, {}, "install 1.44.70 or newer"),
        ({"denied": ["list-bucket-metrics-configurations"]}, {}, "AccessDenied"),
        ({}, {"DST_BUCKET_OWNER": "222222222222"}, "in the account of the destination, 222222222222"),
    ],
)
def test_why_it_cannot_is_said(
    changes: dict[str, Any], settings: dict[str, str], complaint: str, mirror: Mirror
) -> None:
    mirror.change(**changes)
    _, said = mirror.run("verb_cost --reads 7 --yes", 1, **settings)
    assert complaint in said
    assert mirror.ours() == set()
    if not settings:
        _, said = mirror.run("start_verb; list_request_metrics")
        assert complaint.split(":")[0] in said


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("--reads 0", "--reads 0 is not a number of days from 1 to 99"),
        ("--reads 7 --top 0", "--top 0 is not a number of folders"),
        ("--reads 7 --top 251", "--top 251 is not a number of folders from 1 to 250"),
        ("--reads 7 --folders a/,,b/", "has an empty item"),
        ("--reads 7 --folders a/,logs", "--folders a/,logs: a folder ends with a slash, such as logs/"),
        (f"--reads 7 --folders {'a/,' * 250}b/", "--folders names more than 250 folders"),
        ("--reads 7 --days 3", "--reads cannot be combined with --days"),
    ],
)
def test_wrong_usage_is_refused(options: str, complaint: str, mirror: Mirror) -> None:
    _, said = mirror.run(f"verb_cost {options}", 2)
    assert complaint in said
