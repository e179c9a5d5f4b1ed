"""./sync.sh cost --reads: what it reports beside the requests that were made, what it turns on, off and leaves."""

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from account import APP, MIRROR, SOURCE
from documents import Ran, Scripts, sourced_scripts
from operated import Verbs, deployed, verbs
from paper_account import PaperAccount

__all__ = ["verbs"]
GB, DAY = 10**9, 86_400
OURS = "s3-to-s3express-sync-reads-"
OLD, NEW = "2020-01-01T00:00:00+00:00", time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() - 10 * DAY))
OBJECTS = {
    "models/v1/a": (60 * GB, OLD),
    "models/v2/a b": (40 * GB, NEW),
    "logs[1], old/x": (300 * GB, OLD),
    "tmp/y": (GB, NEW),
    "top": (2 * GB, NEW),
}
THEIRS = {"EntireBucket": ""}


class Mirror:
    """A destination with filters, and the requests of its readers."""

    def __init__(self, verbs: Verbs) -> None:
        self.verbs, verbs.version = verbs, "1.46.3"
        verbs.account = self.account = deployed()
        self.account.kept[f"request-metrics {MIRROR}"] = dict(THEIRS)
        self.fill(OBJECTS)

    def fill(self, objects: dict[str, tuple[int, str]]) -> None:
        self.account.copies = {
            key: {"Body": b"", "Size": size, "LastModified": at, "ETag": "e"} for key, (size, at) in objects.items()
        }

    def read(self, key: str, times: int = 1) -> None:
        self.account.requests += [(key, OBJECTS[key][0])] * times

    def pass_days(self, days: int) -> None:
        """All filters of ours are older than they were; the times of objects are days or years away from any limit."""
        found = filters(self.account)
        older = {
            name: re.sub(f"(?<=^{OURS})[0-9]+", lambda began: str(int(began[0]) - days * DAY), name) for name in found
        }
        self.account.kept[f"request-metrics {MIRROR}"] = {older[name]: found[name] for name in found}
        self.account.counted_from = {
            older[name]: counted for name, counted in self.account.counted_from.items() if name in older
        }

    def cost(self, words: str, status: int = 0, **settings: str) -> Ran:
        return self.verbs.sync(f"cost --reads {words}", status, **settings)

    def report(self, **settings: str) -> dict[str, Any]:
        return dict(self.cost("7 --json", **settings).json)

    def ours(self) -> set[str]:
        return {folder for name, folder in filters(self.account).items() if name.startswith(OURS)}


@pytest.fixture
def mirror(verbs: Verbs) -> Mirror:
    return Mirror(verbs)


def filters(account: PaperAccount) -> dict[str, str]:
    return dict(account.kept.get(f"request-metrics {MIRROR}", {}))


def test_it_says_what_was_read_and_what_the_rest_costs_and_turns_itself_off(mirror: Mirror) -> None:
    mirror.read("logs[1], old/x")  # before it was turned on
    said = mirror.cost("7 --top 2 --yes").errors
    assert "request metrics of 2 folders for 7 days cost at most 1.80 USD" in said
    assert mirror.ours() == {"logs[1], old/", "models/"}
    mirror.read("models/v1/a", 3)
    mirror.read("models/v2/a b")
    mirror.read("top")
    mirror.pass_days(6)
    found = mirror.report()
    assert found["hours"] == pytest.approx(6 * 24, abs=0.1)
    rows = [(row["folder"], row["stored_gb"], row["read_gb"], row["gets"], row["usd"]) for row in found["rows"]]
    assert rows == [("logs[1], old/", 300, 0, 0, 33), ("models/", 100, 220, 4, 11)]
    assert [row["lever"] for row in found["rows"]] == ["EXCLUDE=logs[[]1]\\, old/*", None]
    assert {one["lever"]: one["saves_usd"] for one in found["levers"]} == {
        "PREFIX_FILTER=models/": pytest.approx(303 * 0.11),
        "KEEP_DAYS=30": pytest.approx(360 * 0.11),
    }
    assert len(mirror.ours()) == 2
    mirror.pass_days(1)
    done = mirror.cost("7")
    text = done.output
    assert "turned off" in done.errors
    assert '300.00        0.00          0      33.00  "logs[1], old/"' in text
    assert "\n\nlevers for all of it, USD a month saved:\n" in text
    assert filters(mirror.account) == THEIRS


def test_what_is_not_seen_in_the_name_of_a_folder_reaches_no_terminal(mirror: Mirror) -> None:
    """And one as long as a line has one of its own (operated.py)."""
    folder = f"a\u202e\u009bb{' folder' * 7}/"
    mirror.fill({f"{folder}x": (GB, OLD)})
    said = mirror.cost("7 --yes").errors
    assert mirror.ours() == {folder}
    assert '"a\\u202e\\u009bb folder' in said
    mirror.pass_days(1)
    assert '"a\\u202e\\u009bb folder' in mirror.cost("7").output


def test_folders_that_overlap_are_each_counted_and_saved_once(mirror: Mirror) -> None:
    mirror.cost("3 --folders models/,models/v1/,tmp/ --yes")
    mirror.read("models/v1/a", 2)
    mirror.read("models/v2/a b")
    mirror.pass_days(1)
    found = mirror.report()
    assert {row["folder"]: (row["read_gb"], row["gets"]) for row in found["rows"]} == {
        "models/": (160, 3),
        "models/v1/": (120, 2),
        "tmp/": (0, 0),
    }
    (prefixes,) = (one for one in found["levers"] if one["lever"].startswith("PREFIX_FILTER"))
    assert (prefixes["lever"], prefixes["saves_usd"]) == ("PREFIX_FILTER=models/", pytest.approx(303 * 0.11))


def test_a_folder_that_costs_nothing_is_no_lever_and_what_has_none_is_not_asked_for(mirror: Mirror) -> None:
    mirror.fill({"top": (GB, OLD)})
    none = f"s3://{MIRROR} has no folders: name prefixes with --folders\n"
    assert none in mirror.cost("7 --yes", 1).errors
    mirror.fill({"small/x": (GB // 1000, OLD)})
    mirror.cost("7 --yes")
    mirror.pass_days(1)
    found = mirror.report()
    assert ([row["lever"] for row in found["rows"]], found["levers"]) == ([None], [])


def test_the_figures_of_many_folders_are_those_of_each(mirror: Mirror) -> None:
    """They are asked for in parts, none of which is too long for an argument."""
    mirror.account.requests = [("f100/x", 2 * GB), ("f7/x", GB), ("f100/x", GB)]
    folders = {f"{OURS}{int(time.time()) - DAY}-7-{number}": f"f{number}/" for number in range(250)}
    mirror.account.kept[f"request-metrics {MIRROR}"] |= folders
    mirror.account.counted_from = {name: (folder, 0) for name, folder in folders.items()}
    found = mirror.report()["rows"]
    assert len(found) == 250
    assert {row["folder"]: (row["gets"], row["read_gb"]) for row in found if row["gets"]} == {
        "f7/": (1, 1),
        "f100/": (2, 3),
    }


def test_if_one_is_refused_those_before_it_are_turned_off(mirror: Mirror) -> None:
    left = iter([None])
    mirror.account.denied = [
        lambda call: next(left, "AccessDenied") if call.operation == "PutBucketMetricsConfiguration" else None
    ]
    done = mirror.cost("7 --yes", 1)
    assert "the request metrics are turned off\n" in done.errors
    assert (len(done.sent("PutBucketMetricsConfiguration")), mirror.ours()) == (2, set())


def test_status_is_given_until_when_they_are_on(mirror: Mirror) -> None:
    said = mirror.cost("1 --folders models/ --yes").errors
    assert "request metrics of 1 folder for 1 day cost at most 0.13 USD" in said
    assert "After 1 day, it also turns them off" in said
    mirror.cost("1 --stop")
    mirror.cost("7 --folders models/ --yes")
    found = mirror.verbs.sync("status --json").json["reads"]
    (began,) = (int(name.split("-")[5]) for name in filters(mirror.account) if name.startswith(OURS))
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(began + 7 * DAY))
    assert found == {"folders": 1, "until": until}
    done = mirror.cost("9 --top 3")
    assert "\nthe first figures come after about 15 minutes\n" in done.output
    said = done.errors
    assert f"they stay on: run this again after {until}, which turns them off, or now with --stop" in said
    assert "the request metrics of 1 folder are on already" in said
    assert "no effect until --stop: --reads 9, because they were turned on for 7 days; --top" in said


def test_a_deployment_turns_off_those_whose_days_are_over(deploy: Scripts) -> None:
    over, on = (f"{OURS}{int(time.time()) - 2 * DAY}-{days}-1" for days in (2, 3))
    deploy.account.kept[f"request-metrics {MIRROR}"] = {over: "a/", on: "c/", "theirs": "b/"}
    ran = deploy.deploy()
    assert f"request metrics {MIRROR}: changed (removed, because their days are over)" in ran.output
    assert filters(deploy.account).keys() == {on, "theirs"}
    assert "request metrics" not in deploy.step("ensure_no_overdue_reads").output


@pytest.mark.parametrize(
    ("option", "is_denied", "said"),
    [
        ("", False, "the request metrics were turned off in the meantime, by ./cleanup.sh or another run of cost\n"),
        ("--stop", False, "the request metrics are turned off\n"),
        ("", True, "the request metrics may still be on: "),
    ],
)
def test_a_report_during_which_they_are_removed_or_become_unknown_says_so(
    mirror: Mirror, option: str, is_denied: bool, said: str
) -> None:
    mirror.cost("7 --yes")

    def meanwhile() -> None:
        mirror.account.kept[f"request-metrics {MIRROR}"] = dict(THEIRS)
        if is_denied:
            mirror.account.deny("ListBucketMetricsConfigurations")

    mirror.account.before = {"GetMetricData": [meanwhile]}
    done = mirror.cost(f"7 {option}", int(is_denied))
    assert "GB stored" in done.output
    assert said in done.errors
    assert ("AccessDenied" in done.errors) == is_denied
    assert filters(mirror.account) == THEIRS
    none = "nothing to stop: ./sync.sh cost --reads has turned on no request metrics"
    assert is_denied or none in mirror.cost("7 --stop", 1).errors


@pytest.mark.parametrize(("option", "left"), [("", {"models/"}), ("--stop", set())])
def test_without_a_report_stop_still_turns_them_off(mirror: Mirror, option: str, left: set[str]) -> None:
    """They cost."""
    mirror.cost("7 --folders models/ --yes")
    mirror.account.deny("GetMetricData")
    done = mirror.cost(f"7 {option}", 1)
    assert (done.output, "no GetMetricData" in done.errors, mirror.ours()) == ("", True, left)


SECOND = {"APP_NAME": "second-sync", "SRC_BUCKET": SOURCE, "DST_BUCKET": MIRROR}
OLD_ID = f"{OURS}{int(time.time()) - DAY}-7-1"  # without APP_NAME


def test_two_deployments_with_one_destination_are_kept_apart_and_old_ids_are_found(mirror: Mirror) -> None:
    mirror.cost("7 --folders models/ --yes")
    mirror.account.kept["function second-sync-starter"] = mirror.account.kept[f"function {APP}-starter"]
    mirror.cost("5 --folders tmp/,models/ --yes", **SECOND)
    assert len(filters(mirror.account)) == 1 + 3
    first, second = (mirror.report(**app) for app in ({}, SECOND))
    assert [[row["folder"] for row in one["rows"]] for one in (first, second)] == [["models/"], ["models/", "tmp/"]]
    mirror.account.kept[f"request-metrics {MIRROR}"][OLD_ID] = "old/"
    mirror.account.counted_from[OLD_ID] = ("old/", 0)
    mirror.cost("7 --stop", **SECOND)
    assert sorted(filters(mirror.account).values()) == ["", "models/"]


@pytest.fixture
def deploy(tmp_path: Path) -> Iterator[Scripts]:
    """deploy.sh and cleanup.sh, in an account with a deployment."""
    with sourced_scripts(tmp_path) as found:
        found.account = deployed()
        yield found


def test_a_whole_run_of_cleanup_while_they_are_turned_on_leaves_nothing(verbs: Verbs, deploy: Scripts) -> None:
    verbs.account = account = deploy.account

    def clean_up() -> None:
        assert len(filters(account)) == 1
        deploy.run("main --yes")
        assert filters(account) == {}

    account.before = {"PutBucketMetricsConfiguration": [lambda: None, clean_up]}
    ran = verbs.sync("cost --reads 7 --folders a/,b/,c/ --yes", 1)
    assert len(ran.sent("PutBucketMetricsConfiguration")) == 3
    assert "the request metrics are turned off\n" in ran.errors
    assert f"the deployment {APP} was removed in the meantime\n" in ran.errors
    assert filters(account) == {}
    account.deny("ListBucketMetricsConfigurations")
    again = deploy.run("main --yes", status=1)
    assert "nothing of" not in again.output
    assert f"request metrics of {MIRROR} could not be read: " in again.errors
    assert "turned on, grant yourself s3express:GetMetricsConfiguration and run this again" in again.errors


def test_nothing_is_turned_on_without_a_yes(mirror: Mirror) -> None:
    said = mirror.cost("30", 1).errors
    assert "10 folders for 30 days cost at most 38.47 USD" in said
    assert "nothing was turned on" in said
    assert "has no dry run; set DRY_RUN=false" in mirror.cost("30 --yes", 2, DRY_RUN="true").errors
    assert mirror.ours() == set()


@pytest.mark.parametrize(
    ("version", "denied", "owner", "complaint"),
    [
        ("2.23.6", False, "", "AWS CLI 2.23.6 does not know request metrics of directory buckets: install 2.34.21"),
        ("1.44.69", False, "", "install 1.44.70 or newer"),
        ("1.46.3", True, "", "AccessDenied"),
        ("1.46.3", False, "222222222222", "in the account of the destination, 222222222222"),
    ],
)
def test_why_it_cannot_is_said(version: str, denied: bool, owner: str, complaint: str, mirror: Mirror) -> None:
    mirror.verbs.version = version
    if denied:
        mirror.account.deny("ListBucketMetricsConfigurations")
    assert complaint in mirror.cost("7 --yes", 1, **({"DST_BUCKET_OWNER": owner} if owner else {})).errors
    assert mirror.ours() == set()
