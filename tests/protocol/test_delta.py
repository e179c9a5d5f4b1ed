"""What the names of Delta's files and its commits say: a row for each."""

import json

import pytest

from mirror.model.delta import (
    CHECKPOINT,
    COMMIT,
    OF_VERSION,
    POINTER,
    LogFile,
    Plan,
    in_order_of_removal,
    is_anew,
    is_in_log,
    log_file,
    names_of,
    plan_for,
    version_of_pointer,
)

pytestmark = pytest.mark.fast
LOG = "t/_delta_log/"
SEVEN = f"{7:020}"
IDENTIFIER = "80a083e8-7026-4e79-81be-64bd76c43a11"

# key below t/_delta_log/ -> what it is: kind, version, part of how many, whether it may have sidecars
KEYS = {
    f"{SEVEN}.json": (COMMIT, 7),
    f"{SEVEN}.crc": (OF_VERSION, 7),
    f"{3:020}.{7:020}.compacted.json": (OF_VERSION, 7),
    f"{SEVEN}.checkpoint.parquet": (CHECKPOINT, 7),
    f"{SEVEN}.checkpoint.0000000002.0000000003.parquet": (CHECKPOINT, 7, 2, 3),
    f"{SEVEN}.checkpoint.{IDENTIFIER}.json": (CHECKPOINT, 7, 1, 1, True),
    f"{SEVEN}.checkpoint.{IDENTIFIER}.parquet": (CHECKPOINT, 7, 1, 1, True),
    "_last_checkpoint": (POINTER, -1),
}
OTHERS = (
    f"t/{SEVEN}.json",
    f"{LOG}7.json",
    f"{LOG}{SEVEN}.json.tmp",
    f"{LOG}.tmp/{SEVEN}.json",
    f"{LOG}_staged_commits/{SEVEN}.{IDENTIFIER}.json",
    f"{LOG}_sidecars/{IDENTIFIER}.parquet",
    f"t/my_delta_log/{SEVEN}.json",
    f"{LOG}\n{SEVEN}.json",
    f"{LOG}{SEVEN.replace('0', '\u0660')}.json",
)


@pytest.mark.parametrize("name", KEYS)
def test_a_file_of_a_log_is_known_by_its_name(name):
    assert log_file(LOG + name) == LogFile(LOG + name, "t/", *KEYS[name])
    assert log_file(f"_delta_log/{name}") == LogFile(f"_delta_log/{name}", "", *KEYS[name])


def test_any_other_key_is_no_file_of_a_log():
    assert [key for key in OTHERS if log_file(key)] == []
    assert [is_in_log(folder) for folder in ("t/_delta_log/", "_delta_log/a/", "my_delta_log/t/", "")] == [True] * 2 + [
        False
    ] * 2


def vector(storage, name):
    return {"path": "f", "deletionVector": {"storageType": storage, "pathOrInlineDv": name}}


# actions of a commit -> the keys that it adds; None: they cannot be known
COMMITS = [
    ([{"commitInfo": {}}, {"protocol": {}}, {"metaData": {}}, {"txn": {}}, {"remove": {"path": "f"}}], set()),
    (
        [{"add": {"path": "f"}}, {"add": {"path": "g"}}, {"cdc": {"path": "_change_data/c"}}],
        {"f", "g", "_change_data/c"},
    ),
    ([{"add": {"path": "p=b%252Fc%2525/f%20g"}}], {"p=b%2Fc%25/f g"}),
    ([{"add": {"path": "p=%E4%B8%AD/f+g"}}], {"p=中/f+g"}),
    ([{"add": {"path": "f", "stats": "\u2028 \x85"}}, {"add": {"path": "g"}}], {"f", "g"}),
    ([{"add": {"path": "s3://other/f"}}, {"add": {"path": "file:/f"}}, {"add": {"path": "/f"}}], set()),
    ([{"add": {"path": "f", "deletionVector": None}, "remove": None}], {"f"}),
    # The example of PROTOCOL.md, "Deletion Vector Descriptor Schema".
    (
        [{"add": vector("u", "ab^-aqEH.-t@S}K{vb[*k^")}],
        {"f", "ab/deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin"},
    ),
    ([{"add": vector("u", "^-aqEH.-t@S}K{vb[*k^")}], {"f", "deletion_vector_d2c639aa-8816-431a-aaf6-d3fe2512ff61.bin"}),
    ([{"add": vector("i", "wi5b=000010000siXQKl0rr91000f55c8Xg0@@D72lkbi5=-{L")}], {"f"}),
    ([{"add": vector("p", "s3://other/v.bin")}], {"f"}),
    ([{"add": vector("x", "v.bin")}], None),
    ([{"add": vector("u", "short")}], None),
    ([{"add": {"path": "%ff"}}], None),
    ([{"add": {"path": "a" * 1023}}], None),
    ([{"addLater": {"path": "f"}}], None),
    ([7], None),
]


@pytest.mark.parametrize(("actions", "keys"), COMMITS)
def test_a_commit_names_what_it_adds(actions, keys):
    commit = "\n".join(json.dumps(action, ensure_ascii=False) for action in actions).encode()
    assert names_of(commit, "t/") == (None if keys is None else {f"t/{key}" for key in keys})


@pytest.mark.parametrize(
    "commit", [b"\xff", b"[" * 100_000, b'{"add": {"path": "f"}} x', b'{"add": {"path": "\\ud800"}}']
)
def test_what_is_no_commit_names_nothing_that_can_be_known(commit):
    assert names_of(commit, "t/") is None


def test_a_pointer_names_a_version():
    versions = {
        '{"version": 7, "size": 3}': 7,
        "{}": None,
        '{"version": "7"}': None,
        '{"version": -1}': None,
        "x": None,
    }
    assert {text: version_of_pointer(text.encode()) for text in versions} == versions


# --- The plan ---------------------------------------------------------------------------------------------------------


def keys(names):
    """0 is the commit 0, c7 the checkpoint 7, c7.1.2 part 1 of 2 of it, p the pointer."""
    written = []
    for name in names.split():
        if name == "p":
            written.append(f"{LOG}_last_checkpoint")
        elif name.startswith("c"):
            version, *parts = map(int, name[1:].split("."))
            of_parts = "".join(f"{part:010}." for part in parts)
            written.append(f"{LOG}{version:020}.checkpoint.{of_parts}parquet")
        else:
            written.append(f"{LOG}{int(name):020}.json")
    return tuple(written)


def files(names):
    return [log_file(key) for key in keys(names)]


def first(number):
    """So many commits."""
    return " ".join(map(str, range(number)))


NEVER = f"c{10**20 - 1}"
THIRD = "t/_delta_log/00000000000000000003.json"
GAP = f"the source's log has a gap before {THIRD} and no checkpoint after it, or EXCLUDE has them"

# what the source holds, what of that is missing in the destination -> the base, the commits and what comes after, in
# the order in which they are copied; or the problem
PLANS = {
    "in order": ("2 0 1", "2 1", "| 1 2 |"),
    "a gap in the destination": ("0 1 2 3", "1 3", "| 1 3 |"),
    "the newest checkpoint": ("0 1 2 c0 c1", "c0 c1", "|| c1"),
    "no beginning": ("2 3 c2 p", "2 3 c2 p", "c2 | 2 3 | p"),
    "begun with a checkpoint alone": ("2 c2 p", "2 p", "| 2 | p"),
    "after an older checkpoint that is there": ("2 3 4 c2 c4", "4 c4", "| 4 | c4"),
    "an older one that is not": ("2 3 4 c2 c4", "3 4 c2 c4", "c4 | 4 |"),
    "in parts": ("2 c2.1.2 c2.2.2", "2 c2.1.2", "c2.1.2 | 2 |"),
    "incomplete": ("1 2 c1 c2.1.2", "2", "| 2 |"),
    "a gap in the source": ("0 1 3 4", "3 4", GAP),
    "a gap below a checkpoint": ("0 2 3 c1", "2 3", "| 2 3 |"),
    "a checkpoint of a version that never was": (f"0 1 {NEVER}", f"1 {NEVER}", f"| 1 | {NEVER}"),
    "a few commits before a checkpoint": (f"{first(200)} c199", f"{first(200)} c199", f"| {first(200)} | c199"),
    "many commits before a checkpoint": (f"{first(203)} c201", f"{first(203)} c201", "c201 | 201 202 |"),
}


@pytest.mark.parametrize("what", PLANS)
def test_a_log_is_copied_in_such_an_order_that_each_version_can_be_opened(what):
    log, missing, plan = PLANS[what]
    expected = Plan("", *map(keys, plan.split("|"))) if "|" in plan else Plan(plan)
    assert plan_for(files(log), keys(missing)) == expected


# what the source's log holds, what the destination's, what of that is another -> whether the table was made again
ANEW = [
    ("0 1", "0 1", "", False),
    ("1 2 c1", "0 1 c1", "", False),
    ("0 c1", "0", "c1", False),
    ("0", "0", "0", True),
    ("0", "1 c1", "", True),
    ("", "0 1", "", False),
]


@pytest.mark.parametrize(("log", "mirrored", "stale", "anew"), ANEW)
def test_a_table_that_was_made_anew_is_known_by_its_commits(log, mirrored, stale, anew):
    assert is_anew(files(log), files(mirrored), keys(stale)) is anew


def test_of_an_old_log_the_pointer_goes_first_and_then_what_it_begins_with():
    assert in_order_of_removal(files("2 0 c1 p 1")) == list(keys("p c1 0 1 2"))
