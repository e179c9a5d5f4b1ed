"""PREFIX_FILTER and EXCLUDE: what their texts mean, and which keys they take."""

from __future__ import annotations

import fnmatch
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import ENVIRONMENT
from world import MIRROR, SOURCE, World

import worker
from mirror.cli import log_first_line, parse_arguments
from mirror.model.selection import items_of, wanted_of
from mirror.queue.messages import read_body
from mirror.settings import load_settings
from mirror.version import VERSION

ROOT = Path(worker.__file__).parent

# The text of a list, its items, and what is synced if it is PREFIX_FILTER.
LISTS = [
    ("", [], [""]),
    ("a/", ["a/"], ["a/"]),
    ("b/,a/", ["b/", "a/"], ["a/", "b/"]),
    (r"a\,b/", ["a,b/"], ["a,b/"]),
    (r"a\,b,c\,\,d", ["a,b", "c,,d"], ["a,b", "c,,d"]),
    (r"\,", [","], [","]),
    ("a\\", ["a\\"], ["a\\"]),
    ("b,a\\", ["b", "a\\"], ["a\\", "b"]),
    ("a\\,", ["a,"], ["a,"]),
    (r"a\\,b", [r"a\,b"], [r"a\,b"]),
    (r"a\b,c\n", [r"a\b", r"c\n"], [r"a\b", r"c\n"]),
    ("b,a,b", ["b", "a"], ["a", "b"]),
    (r"a\,,a\,", ["a,"], ["a,"]),
    ("a/b/c,a/,b,a/b/,ba", ["a/b/c", "a/", "b", "a/b/", "ba"], ["a/", "b"]),
    ("a/b,a!,a/", ["a/b", "a!", "a/"], ["a!", "a/"]),
    ("A/,a/", ["A/", "a/"], ["A/", "a/"]),
    ("a,,b", ["a", "", "b"], [""]),
    (",", [""], [""]),
    (" a , b ", [" a ", " b "], [" a ", " b "]),
    ("模型/,模型/甲/,数据/", ["模型/", "模型/甲/", "数据/"], ["数据/", "模型/"]),
    ("e\u0301/,\u00e9/", ["e\u0301/", "\u00e9/"], ["e\u0301/", "\u00e9/"]),
    ("\U0001f600/,\uff5e/,z", ["\U0001f600/", "\uff5e/", "z"], ["z", "\uff5e/", "\U0001f600/"]),
    ("\"a\",'b',$c,%2C,+,#", ['"a"', "'b'", "$c", "%2C", "+", "#"], ['"a"', "#", "$c", "%2C", "'b'", "+"]),
    ("*.tmp,[a,b],?", ["*.tmp", "[a", "b]", "?"], ["*.tmp", "?", "[a", "b]"]),
    ("a\nb,c", ["a\nb", "c"], ["a\nb", "c"]),
]

# EXCLUDE, keys that it matches, and others.
GLOBS = [
    ("*.tmp", ["x.tmp", "a/x.tmp", ".tmp", "a/b\nc.tmp"], ["x.TMP", "x.tmp/y", "xtmp", "x.tmp\n", "x.tmp "]),
    ("*/_temporary/*", ["a/_temporary/x", "a/b/_temporary/0/x"], ["_temporary/x", "a/_temporary", "a/x_temporary/y"]),
    ("logs/*", ["logs/", "logs/a", "logs/a/b"], ["logs", "a/logs/b", "Logs/a"]),
    ("logs", ["logs"], ["logs/a", "a/logs"]),
    ("?", ["a", "/", "\n", "é", "\U0001f600"], ["", "ab", "e\u0301"]),
    ("v[12]", ["v1", "v2"], ["v3", "v", "v12", "V1", "v[12]"]),
    ("v[!12]", ["v3", "v/", "v\n"], ["v1", "v2", "v"]),
    ("v[a-c]", ["va", "vb"], ["vd", "v-", "vA"]),
    ("v[]]", ["v]"], ["v", "v[]]"]),
    ("v[", ["v["], ["v", "va"]),
    ("v[c-a]", [], ["va", "vb", "v[c-a]"]),
    ("a.b+c(d)|e$^", ["a.b+c(d)|e$^"], ["axb+c(d)|e$^", "e$^"]),
    ("a|b,c", ["a|b", "c"], ["a", "b", "a|c"]),
    ("a,b", ["a", "b"], ["ab", "aa", "a,b"]),
    (r"a\,b", ["a,b"], ["a", "b", r"a\,b"]),
    (r"a\*", [r"a\b", "a\\"], ["a*", "ab"]),
    ("[*]", ["*"], ["a", "[*]"]),
    ("é/*", ["é/x"], ["e\u0301/x", "É/x"]),
    ("*", ["", "a", "a/b"], []),
    ("", [], ["", "a"]),
    ("a b/*", ["a b/c"], ["a+b/c", "a%20b/c"]),
    ("*%20*,*+*", ["a%20b", "a+b"], ["a b"]),
    ("x" * 1024, ["x" * 1024], ["x" * 1023]),
    ("*[!x]", ["x" * 1023 + "y"], ["x" * 1024]),
]
# Each of the 500 characters that EXCLUDE may have, against a key of 1,024 bytes.
WORST = [
    "*a" * 249 + "*b", "*?" * 249 + "b", "*" + "a" * 498 + "b", "*" + "?" * 498 + "b", "*" + "?" * 497 + "b*",
    ",".join(["*a*b"] * 100), ",".join(f"*{'?' * number}b" for number in range(1, 28)), "*[!b]" * 99 + "*b",
]  # fmt: skip


def bodies_of(world: World, key: str, bucket: str = "source") -> list[str]:
    """Of an event of the key as S3's own notification and as EventBridge's."""
    world.put(key)
    classic = world.standin.messages("sync-q")[-1]["body"]
    detail = {"bucket": {"name": bucket}, "object": {"key": key}}
    return [classic, json.dumps({"source": "aws.s3", "detail-type": "Object Created", "detail": detail})]


# Lists


def test_what_a_list_means():
    for text, items, prefixes in LISTS:
        assert (text, list(items_of(text)), list(wanted_of(text, "", 0).prefixes)) == (text, items, prefixes)


@pytest.mark.parametrize(
    ("prefix_filter", "prefix", "under"),
    [
        ("", "", ("",)),
        ("", "a/b", ("a/b",)),
        ("a/,b/", "", ("a/", "b/")),
        ("a/,b/", "a/", ("a/",)),
        ("a/,b/", "a/x/y", ("a/x/y",)),
        ("a/x/,a/y/,b/", "a/", ("a/x/", "a/y/")),
        ("a/x/,a/y/,b/", "a/y/z", ("a/y/z",)),
        ("a/,b/", "c/", ()),
        ("a/", "A/", ()),
        ("a/,a/x/", "a/x/", ("a/x/",)),
    ],
)
def test_what_lies_under_a_prefix(prefix_filter: str, prefix: str, under: tuple[str, ...]):
    assert wanted_of(prefix_filter, "", 0).under(prefix) == under


# Patterns


@pytest.mark.parametrize(("exclude", "matched", "others"), GLOBS)
def test_what_exclude_matches(exclude: str, matched: list[str], others: list[str]):
    wanted = wanted_of("", exclude, 0)
    assert [key for key in matched + others if wanted.excludes(key)] == matched
    assert [key for key in matched + others if wanted.takes(key)] == others


def test_each_pattern_of_many_keeps_its_meaning_beside_the_others():
    """They are compiled as one."""
    for exclude, matched, others in GLOBS:
        beside = wanted_of("", ",".join(filter(None, ("*.one", exclude, "two/*"))), 0)
        assert [key for key in [*matched, *others, "x.one", "two/x"] if beside.excludes(key)] == [
            *matched, *(key for key in others if key.endswith(".one")), "x.one", "two/x",
        ]  # fmt: skip


def test_every_pattern_can_be_compiled():
    for first in "*?[]!-^\\&~|{}().+$#aä ":
        for second in "*?[]!-^\\&~|{}().+$#aä ":
            for text in (first + second, f"[{first}{second}", f"[{first}{second}]", f"[!{first}{second}]"):
                assert wanted_of("", text, 0).excludes("\n\n\n\n") == fnmatch.fnmatchcase("\n\n\n\n", text)


def test_a_key_is_decided_in_time_that_grows_with_its_length_only():
    """Without atomic groups the first of them would take forever: where each "*" ends would be tried in all ways."""
    assert max(map(len, WORST)) <= 500
    imports = "import sys; from mirror.model.selection import wanted_of"
    code = f"{imports}; print(wanted_of('', sys.argv[1], 0).excludes('a' * 1024))"
    for exclude in WORST:
        done = subprocess.run(
            [sys.executable, "-c", code, exclude], cwd=ROOT, capture_output=True, text=True, check=True, timeout=300
        )
        assert done.stdout == "False\n"


# Events


@pytest.mark.parametrize(
    ("exclude", "key", "is_excluded"),
    [
        ("my files/*", "my files/a", True),
        ("my+files/*", "my files/a", False),
        ("*+*", "a+b", True),
        ("*+*", "a b", False),
        ("*%2B*", "a+b", False),
        ("模型/*.tmp", "模型/é\n.tmp", True),
        ("?.tmp", "\U0001f600.tmp", True),
    ],
)
def test_patterns_are_for_the_key_as_it_is_not_as_an_event_writes_it(
    world: World, exclude: str, key: str, is_excluded: bool
):
    settings = load_settings(world.environment(EXCLUDE=exclude))
    for body in bodies_of(world, key):
        assert read_body(body, settings).keys == (set() if is_excluded else {key})


# Settings


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"EXCLUDE": "*.tmp,"}, "EXCLUDE='*.tmp,' has an empty item"),
        ({"EXCLUDE": ","}, "EXCLUDE=',' has an empty item"),
        ({"EXCLUDE": "*.tmp, *.bak"}, "EXCLUDE='*.tmp, *.bak' has a space next to a comma: remove it"),
        ({"EXCLUDE": "*.tmp\n"}, r"EXCLUDE='*.tmp\n' has to be"),
        ({"EXCLUDE": "x" * 501}, "has to be at most 500 characters of patterns, separated by commas"),
        ({"EXCLUDE": "\udcff"}, r"EXCLUDE='\udcff' has to be"),
        ({"PREFIX_FILTER": "a/,,b/"}, "PREFIX_FILTER='a/,,b/' has an empty item"),
        ({"PREFIX_FILTER": "a/ ,b/"}, "PREFIX_FILTER='a/ ,b/' has a space next to a comma: remove it"),
        ({"PREFIX_FILTER": "\udcff/"}, r"PREFIX_FILTER='\udcff/' has to be"),
        ({"COPY_LAST": "a\tb"}, r"COPY_LAST='a\tb' has to be patterns of keys"),
        ({"KEEP_DAYS": "-1"}, "KEEP_DAYS='-1' has to be a whole number from 0 to 3650"),
        ({"KEEP_DAYS": "3651"}, "KEEP_DAYS='3651' has to be a whole number from 0 to 3650"),
        ({"KEEP_DAYS": "1.5"}, "KEEP_DAYS='1.5' has to be"),
        ({"KEEP_DAYS": "30d"}, "KEEP_DAYS='30d' has to be"),
        ({"EXCLUDE": "a,", "KEEP_DAYS": "x", "REGION": "?"}, "REGION='?' has to be"),
    ],
)
def test_a_wrong_setting_is_named_with_what_it_has_to_be(world: World, changed: dict[str, str], told: str):
    with pytest.raises(ValueError, match=re.escape(told)):
        load_settings(world.environment(**changed))


@pytest.mark.parametrize(
    "changed",
    [
        {"EXCLUDE": r"a\, b", "PREFIX_FILTER": r"a\, b"},
        {"EXCLUDE": " a", "PREFIX_FILTER": " a/"},
        {"EXCLUDE": "x" * 500, "KEEP_DAYS": "3650"},
        {"EXCLUDE": "", "KEEP_DAYS": ""},
    ],
)
def test_what_is_no_mistake(world: World, changed: dict[str, str]):
    load_settings(world.environment(**changed))


@pytest.mark.parametrize("changed", [{"EXCLUDE": "*.tmp, *.bak"}, {"PREFIX_FILTER": "a,"}, {"KEEP_DAYS": "a year"}])
@pytest.mark.parametrize("command", [[], ["wait"], ["reconcile"]])
def test_a_worker_with_a_wrong_setting_says_so_in_one_line(world: World, changed: dict[str, str], command: list[str]):
    run = [sys.executable, worker.__file__, *command]
    done = subprocess.run(run, env=world.environment(**changed), capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"worker: {next(iter(changed))}=.*\n", done.stderr)


# The first line


RELEASE_1_0_0 = {
    "PREFIX_FILTER": "data/", "SRC_BUCKET_OWNER": "", "DST_BUCKET_OWNER": "", "MAX_RECEIVES": "3",
    "MULTIPART_THRESHOLD": "5368709120", "PART_SIZE": "67108864", "MAX_CONCURRENT_PARTS": "256",
    "MAX_CONCURRENT_KEYS": "256", "PROCESSES": "1", "S3_CLIENT": "boto3", "LOG_LEVEL": "INFO",
}  # fmt: skip


def test_a_worker_with_the_variables_of_1_0_0_leaves_nothing_out(world: World):
    world.put("data/x.tmp")
    world.put("data/old", modified=1)
    world.put("other")
    output = world.run_worker(**RELEASE_1_0_0)
    assert set(world.mirrored()) == {"data/x.tmp", "data/old"}
    assert f'syncing {SOURCE} to {MIRROR} prefix="data/" version={VERSION}\n' in output


@pytest.mark.parametrize(
    ("arguments", "settings", "first_line"),
    [
        (
            "",
            {"EXCLUDE": "*.tmp", "KEEP_DAYS": "30"},
            'syncing source to mirror prefix="data/" exclude="*.tmp" keep_days=30',
        ),
        ("reconcile", {}, 'comparing source with mirror prefix="data/"'),
        ("reconcile --dry-run --prefix data/a", {}, 'comparing source with mirror prefix="data/a"'),
        ("wait --prefix data/b/", {}, 'waiting until source is in mirror prefix="data/b/"'),
        ("measure", {}, 'measuring source and mirror prefix="data/"'),
    ],
)
def test_the_first_line_says_what_is_done_with_which_keys(
    caplog: pytest.LogCaptureFixture, arguments: str, settings: dict[str, str], first_line: str
):
    caplog.set_level("INFO")
    log_first_line(
        load_settings(ENVIRONMENT | {"PREFIX_FILTER": "data/"} | settings), parse_arguments(arguments.split())
    )
    assert caplog.messages == [first_line.replace("mirror", MIRROR) + f" version={VERSION}"]
