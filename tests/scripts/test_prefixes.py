"""Several prefixes and EXCLUDE: what is refused, said and made of them: notifications, rule, policies, variables."""

import fnmatch
import itertools
import json
import re
import shlex
import subprocess
from typing import Any
from urllib.parse import quote_plus, unquote_plus

import pytest
from account import APP, SOURCE, Account
from deployment import CHANGED, CLIS, assert_conforming, one_cli, one_cloud, states
from test_event_source import CHANGING
from test_function_that_copies import LARGEST, MOST_OF_A_POLICY, MOST_VARIABLES, without_account
from test_prefix import keys_in_queue
from test_settings import PASSED, bash, problems, task_policy

from mirror.model.delta import may_be_in_log

QUEUE = f"arn:aws:sqs:us-east-1:123456789012:{APP}-q"
TWENTY = ",".join(f"{'p' * 47}{number:03}" for number in range(20))  # 1,019 bytes
QUOTES = ",".join(f"{number:02}{'"' * 48}" for number in range(20))  # 1,019 bytes, and twice as many in JSON


def listed(text: str) -> list[str]:
    """Several prefixes as a setting says them, read by the scripts."""
    return json.loads(bash("synced_prefixes", PREFIX_FILTER=text))


# --- what is refused ------------------------------------------------------------------------------------------------

REFUSED = [
    ("PREFIX_FILTER", "a/,,b/", 'item 2, "", is empty or has a space next to a comma: set a/,b/'),
    ("PREFIX_FILTER", "a/,", 'item 2, "", is empty or has a space next to a comma: set a/\n'),
    ("PREFIX_FILTER", ",", ": set nothing\n"),
    ("PREFIX_FILTER", "a/, b/", 'item 2, " b/", is empty or has a space next to a comma: set a/,b/'),
    ("PREFIX_FILTER", "a\\,/ ,b/", 'item 1, "a,/ ", is empty or has a space next to a comma: set a\\,/,b/'),
    ("PREFIX_FILTER", "a/,b?/", 'without * ? and $ instead of "b?/", which IAM would read as wildcards'),
    ("PREFIX_FILTER", f"a/,{'é' * 200}", f'a shorter prefix instead of "{"é" * 200}", because it has 1200'),
    ("PREFIX_FILTER", f"{'a' * 512},{'b' * 512}", "of at most 1024 bytes in all, not 1025"),
    ("PREFIX_FILTER", ",".join("abcdefghijklmnopqrstu"), "set at most 20 prefixes, not 21"),
    ("EXCLUDE", "*.tmp,,*.bak", 'item 2, "", is empty or has a space next to a comma: set *.tmp,*.bak'),
    ("EXCLUDE", "*.tmp, *.bak", ": set *.tmp,*.bak\n"),
    ("EXCLUDE", "*.t\tmp", "set patterns of UTF-8 without control characters"),
    ("EXCLUDE", "*.\udcff", "set patterns of UTF-8 without control characters"),
    ("EXCLUDE", "é" * 251, "of at most 500 bytes in all, not 502"),
    ("EXCLUDE", "*", "* leaves out every key, so that nothing would be synced: remove it"),
    ("EXCLUDE", "*.tmp,**", "** leaves out every key"),
    ("EXCLUDE", "?*", "?* leaves out every key"),
]


@pytest.mark.parametrize(("name", "value", "message"), REFUSED, ids=[f"{n}-{m[:40]}" for n, _, m in REFUSED])
def test_what_is_no_list_is_refused_with_what_to_write_instead(name: str, value: str, message: str) -> None:
    found = problems(**{name: value})
    assert message in found
    assert found.startswith(f"{name}=")
    assert found.count("\n") == 1


def test_a_pattern_of_a_rule_that_would_be_too_long_is_refused_only_where_there_is_a_rule() -> None:
    assert problems(PREFIX_FILTER=QUOTES) == f"{PASSED}\n"
    found = problems(PREFIX_FILTER=QUOTES, EVENT_SOURCE="eventbridge")
    assert re.search(
        "set fewer or shorter prefixes, because EventBridge takes a pattern of 2048 characters, .* 2[0-9]{3}", found
    )
    assert problems(PREFIX_FILTER=TWENTY, EVENT_SOURCE="eventbridge") == f"{PASSED}\n"


def test_an_exclusion_may_leave_out_prefixes_but_not_all_of_them() -> None:
    both = {"PREFIX_FILTER": "a/,b[1]/"}
    found = problems(EXCLUDE="a/*,[!a]*", **both)
    assert found.startswith(
        "EXCLUDE=a/*,[!a]* leaves out every key of PREFIX_FILTER=a/,b[1]/, so that nothing would be"
    )
    for some in ("a/*", "*/*.tmp", "a/*.tmp,b[[]1]/*.tmp", "a/x*,b*x", "[a-b]/*", "a/,b[[]1]/"):
        assert problems(EXCLUDE=some, **both) == f"{PASSED}\n", some


def test_all_patterns_together_fit_into_the_functions_variables() -> None:
    """COPY_LAST has at most 500 characters, which may be 2,000 bytes."""
    most = {"PREFIX_FILTER": "a" * 1024, "EXCLUDE": "x" * 500, "COPY_LAST": "é" * 250}
    assert problems(**most) == f"{PASSED}\n"
    found = problems(**most | {"COPY_LAST": "é" * 251})
    assert found.startswith("PREFIX_FILTER, EXCLUDE and COPY_LAST together have 2026 bytes: set fewer or shorter ones")


def test_a_marker_is_no_file_of_a_tables_log() -> None:
    """The worker refuses the same."""
    for pattern in ("a/*.json", "x[0-9]/_delta_log/[!0]*7.crc", "*.0000000002.parquet", "a/*/_SUCCESS", "*_delta_log*"):
        found = problems(TABLES="delta", COPY_LAST=f"_DONE,{pattern}")
        is_refused = f"remove {pattern}, which can match files of a table's log" in found
        assert is_refused is may_be_in_log(pattern), found
        assert is_refused or found == f"{PASSED}\n"
    assert problems(COPY_LAST="a/*.json") == f"{PASSED}\n"


ALLOWED = [
    ("PREFIX_FILTER", TWENTY),
    ("PREFIX_FILTER", " a b/ "),
    ("PREFIX_FILTER", "a b/, c/".replace(", ", "\\, ")),
    ("PREFIX_FILTER", "a/,a/,a/b/"),
    ("PREFIX_FILTER", "a b/,é+%/,模型/"),
    ("PREFIX_FILTER", ",".join(["a" * 511, "b" * 512])),
    ("EXCLUDE", "*.tmp,*/_temporary/*"),
    ("EXCLUDE", "a\\, b*,?,??*,[*],x y"),
    ("EXCLUDE", "x" * 500),
]


def test_what_is_a_list_is_taken() -> None:
    for name, value in ALLOWED:
        assert problems(**{name: value}) == f"{PASSED}\n", (name, value)


# --- what is said ---------------------------------------------------------------------------------------------------


def told(script: str, **settings: str) -> str:
    """What the functions say, on stderr and on stdout."""
    return bash(f"{{ {script}; }} 2>&1", **settings)


def test_deploy_tells_how_many_prefixes_there_are_and_which_are_merged() -> None:
    assert told("tell_of_lists", PREFIX_FILTER="models/", EXCLUDE="*.tmp") == ""
    assert told("tell_of_lists", PREFIX_FILTER="a\\,b/") == ""
    assert told("tell_of_lists", PREFIX_FILTER="b,a/,a/x/,b", EXCLUDE="*.tmp,a/*") == (
        "PREFIX_FILTER: 2 prefixes are synced: a/, b\n"
        "PREFIX_FILTER: a/x/ is covered by a/\n"
        "PREFIX_FILTER: b is listed 2 times\n"
        "EXCLUDE: a/* leaves out everything under the prefix a/\n"
    )


def test_the_last_lines_name_the_part_of_the_source_that_is_synced() -> None:
    for settings, part in (
        ({}, "s3://their-source/"),
        ({"PREFIX_FILTER": "models/"}, "s3://their-source/models/"),
        ({"PREFIX_FILTER": "a\\,b/"}, "s3://their-source/a,b/"),
        (
            {"PREFIX_FILTER": "b/,a/", "EXCLUDE": "*.tmp,c\\,*"},
            "s3://their-source/a/ or s3://their-source/b/ (except for *.tmp, c,*)",
        ),
    ):
        assert bash("synced_part", PREFIX_FILTER="", EXCLUDE="", **settings) == f"{part}\n" if not settings else True
        assert bash("synced_part", **settings) == f"{part}\n"


def change(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """What deploy.sh says after a change of the settings of a deployment."""
    environment = [{"name": name, "value": value} for name, value in old.items()]
    definition = json.dumps({"containerDefinitions": [{"name": "worker", "environment": environment}]})
    script = f"ask_task_definition() {{ printf '%s' {shlex.quote(definition)}; }}; tell_of_change"
    lines = bash(script, **new).splitlines()
    assert lines[:2] in ([], ["", "Since the last ./deploy.sh, PREFIX_FILTER or EXCLUDE has changed:"])
    return lines[2:]


def test_a_change_says_what_a_reconcile_brings_and_what_stays() -> None:
    brings, stays = "- Existing objects", "- Copies"
    same = {"PREFIX_FILTER": "a/,b/", "EXCLUDE": "*.tmp"}
    assert change(same, same) == []
    assert change(same, {"PREFIX_FILTER": "b/,a/,b/c/", "EXCLUDE": "*.tmp,*.tmp"}) == []
    assert change({}, {}) == []
    assert bash("ask_task_definition() { :; }; tell_of_change", PREFIX_FILTER="a/") == ""  # the first deployment
    assert change({"PREFIX_FILTER": "a/"}, same) == [
        f"{brings} under b/ are not copied yet. To copy them: ./sync.sh reconcile",
        "- Copies like *.tmp are unwanted now. ./sync.sh reconcile counts them, and deletes them with: "
        "--remove-unwanted",
    ]
    assert change(same, {}) == [
        f"{brings} are not copied yet. To copy them: ./sync.sh reconcile",
        "- Keys like *.tmp are no longer left out. To copy them: ./sync.sh reconcile",
    ]
    (line,) = change({}, {"PREFIX_FILTER": "a/"})
    assert line.startswith(
        f"{stays} that are no longer synced stay in the destination, and nothing looks at them any more"
    )
    assert line.endswith("aws s3 rm --recursive 's3://mirror--use1-az4--x-s3/' --exclude 'a/*'")


@one_cloud
@pytest.mark.parametrize("tools", CLIS, indirect=True)
def test_the_command_that_is_told_deletes_what_is_synced_no_longer_and_nothing_else(account: Account) -> None:
    """As the AWS CLI reads it: of all keys those that only the old prefixes take."""
    keys = [
        *("a/x", "a/b/x", "a/bc", "a/b/c/x", "ab", "m[o]/v1", "m[o]/v2", "mo/v1", "it's/x", "é f/x", "z", "a/[x]/y"),
    ]
    s3 = account.client("s3")
    s3.create_bucket(Bucket="copies")
    for old, new in (("", "a/"), ("a/", "z"), ("a/b", "a/b/c/,z"), ("m[o]/v,it's/", "m[o]/v2"), ("é f/,a/", "a/[x]/")):
        for key in keys:
            s3.put_object(Bucket="copies", Key=key)
        before, after = (tuple(listed(text)) for text in (old, new))
        for line in change({"PREFIX_FILTER": old}, {"PREFIX_FILTER": new, "DST_BUCKET": "copies"}):
            if "aws s3 rm" in line:
                command = shlex.split(line.partition("--dryrun): ")[2])
                subprocess.run(command, env=account.environment(), check=True, capture_output=True)
        left = {found["Key"] for found in s3.list_objects_v2(Bucket="copies").get("Contents", [])}
        assert left == {key for key in keys if key.startswith(after) or not key.startswith(before)}, (old, new)


# --- notifications --------------------------------------------------------------------------------------------------


def notifications(**settings: str) -> list[dict[str, Any]]:
    return json.loads(bash("notifications", **settings))


def filters(found: list[dict[str, Any]]) -> list[str]:
    return [rule["Value"] for one in found for rule in one.get("Filter", {}).get("Key", {}).get("FilterRules", [])]


# PREFIX_FILTER, and the filters.
FILTERS = [
    ("", []),
    ("models/", ["models/"]),
    ("models/,datasets/2026/", ["datasets/2026/", "models/"]),
    ("b,a,b", ["a", "b"]),
    ("a/b/,a/,ab,a", ["a"]),
    ("a/,a/b/,ab", ["a/", "ab"]),
    ("my models/,x+y/", ["my+models/", "x%2By/"]),
    ("100%/,100%20/", ["100%25/", "100%2520/"]),
    ("a\\,b/,c/", ["a%2Cb/", "c/"]),
    ("a\\b/,c", ["a%5Cb/", "c"]),
    ("模型/,é/", ["%C3%A9/", "%E6%A8%A1%E5%9E%8B/"]),
    ("a=1/,a&b#,A/", ["A/", "a%26b%23", "a%3D1/"]),
]


@pytest.mark.parametrize(("text", "values"), FILTERS)
def test_each_prefix_has_a_notification_with_its_filter(text: str, values: list[str]) -> None:
    found = notifications(PREFIX_FILTER=text)
    assert filters(found) == values
    assert [one["Id"] for one in found] == [APP, *(f"{APP}-{number}" for number in range(2, len(values) + 1))]
    assert {one["QueueArn"] for one in found} == {QUEUE}
    assert all(one["Events"] == found[0]["Events"] for one in found)


def test_a_key_of_a_prefix_has_exactly_one_notification_and_another_key_none() -> None:
    """S3 compares a filter with the key as its events write it, and refuses two that both take a key."""
    alphabet = ("a", " ", "+", "%", "%20", ",", "é", "/", "模", "\\", "'")
    prefixes = ["".join(pair) for pair in itertools.product(alphabet, "/b")]
    text = ",".join(prefix.replace(",", "\\,") for prefix in prefixes[:20]).strip()
    synced, values = listed(text), filters(notifications(PREFIX_FILTER=text))
    assert len(synced) == len(values) == 20
    for key in ("".join(letters) for letters in itertools.product((*alphabet, "b"), repeat=3)):
        hits = [value for value in values if quote_plus(key, safe="/").startswith(value)]
        assert len(hits) == key.startswith(tuple(synced)), key


def configuration(*found: dict[str, Any], kind: str = "QueueConfigurations") -> str:
    return shlex.quote(json.dumps({kind: list(found)}))


def other(prefix: str, **changed: Any) -> dict[str, Any]:
    rules = {"Key": {"FilterRules": [{"Name": "Prefix", "Value": prefix}]}}
    return {"Id": "theirs", "QueueArn": "arn:theirs", "Events": ["s3:ObjectCreated:Put"], "Filter": rules} | changed


def test_every_prefix_is_compared_with_the_notifications_of_others() -> None:
    for prefix, overlaps in (("a/x", True), ("b", True), ("b+c/", True), ("c/", False), ("", True), ("a", True)):
        for kind in ("QueueConfigurations", "TopicConfigurations", "LambdaFunctionConfigurations"):
            script = f"overlapping_notifications {configuration(other(prefix), kind=kind)}"
            assert ("theirs" in bash(script, PREFIX_FILTER="a/,b c/")) == overlaps, (prefix, kind)
    ours = notifications(PREFIX_FILTER="a/,b/,c/")
    assert bash(f"overlapping_notifications {configuration(*ours)}", PREFIX_FILTER="a/") == ""


def test_of_others_with_a_name_of_ours_the_id_and_the_queue_are_told() -> None:
    have = configuration(other("z/", Id=f"{APP}-2"), other("y/", Id=f"{APP}-3"))
    script = f'check_names_of_notifications {have}; printf "%s\\n" "${{PROBLEMS[@]-none}}"'
    assert bash(script, PREFIX_FILTER="a/") == "none\n"
    found = bash(script, PREFIX_FILTER="a/,b/")
    assert f"has a notification of the name {APP}-2 already, to the queue arn:theirs of another deployment" in found
    assert found.count("\n") == 1


def test_others_stay_and_what_sends_to_our_queue_goes_whatever_its_name() -> None:
    theirs = [other("z/", Id=name) for name in ("theirs", APP, f"{APP}-2", f"{APP}-2x", f"{APP}-2-2")]
    mine = [other("y/", Id=name, QueueArn=QUEUE) for name in (APP, f"{APP}-2", f"{APP}-20", f"{APP}-300")]
    taken_over = [other("x/", Id=name, QueueArn=QUEUE) for name in (f"{APP}-2x", f"x{APP}", "tf-s3-queue-1")]
    have = configuration(*[one for pair in itertools.zip_longest(theirs, mine, taken_over) for one in pair if one])
    found = json.loads(bash(f"our_notifications {have}"))
    assert sorted(map(str, found)) == sorted(map(str, mine + taken_over))
    assert json.loads(bash(f"other_notifications {have}"))["QueueConfigurations"] == theirs


def test_more_notifications_than_s3_takes_are_a_problem() -> None:
    others = [other(f"{number}/", Id=str(number)) for number in range(98)]
    script = f'check_number_of_notifications {configuration(*others)}; printf "%s\\n" "${{PROBLEMS[@]-none}}"'
    assert bash(script, PREFIX_FILTER="a/,b/") == "none\n"
    found = bash(script, PREFIX_FILTER="a/,b/,c/")
    assert "SRC_BUCKET=their-source has 98 notifications of others, and S3 allows 100 for a bucket" in found


# --- the rule of EventBridge ----------------------------------------------------------------------------------------


def pattern(**settings: str) -> str:
    return bash("event_pattern", **settings)


def key_filter(**settings: str) -> Any:
    return json.loads(pattern(**settings))["detail"].get("object", {}).get("key")


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({}, None),
        ({"PREFIX_FILTER": "a+b %/模/"}, [{"prefix": "a+b %/模/"}]),
        ({"PREFIX_FILTER": "b/,a/,a/x", "EXCLUDE": "*.tmp"}, [{"prefix": "a/"}, {"prefix": "b/"}]),
        ({"EXCLUDE": "*.tmp"}, [{"anything-but": {"wildcard": ["*.tmp"]}}]),
        ({"EXCLUDE": "a?,[b]*,c**,d\\*e,f"}, [{"anything-but": {"wildcard": ["f"]}}]),
        ({"EXCLUDE": "a?,[b]*"}, None),
    ],
)
def test_a_rule_says_what_its_language_can_and_leaves_the_rest_to_the_workers(
    settings: dict[str, str], wanted: Any
) -> None:
    assert key_filter(**settings) == wanted


def test_no_rule_is_too_complex_or_too_long_for_eventbridge() -> None:
    """A report from the field: of such wildcards EventBridge takes three in one rule, and not four."""
    names = ["first", "second", "third", "fourth"]
    assert key_filter(EXCLUDE=",".join(f"*:stack/{name}/*" for name in names)) == [
        {"anything-but": {"wildcard": [f"*:stack/{name}/*" for name in names[:3]]}}
    ]
    assert key_filter(EXCLUDE="*aaaaaaaaaa,*a*a*a*a*a*a,*.b") == [{"anything-but": {"wildcard": ["*.b"]}}]
    assert key_filter(EXCLUDE="*模型模型模型模型模型,*.b") == [{"anything-but": {"wildcard": ["*.b"]}}]
    largest = [{"EXCLUDE": '"' * 500}, {"EXCLUDE": ",".join(["a"] * 250)}, {"PREFIX_FILTER": TWENTY}]
    assert all(len(pattern(SRC_BUCKET="b" * 63, **settings).encode()) < 2048 for settings in largest)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"PREFIX_FILTER": "a b/+,模型/,100%"},
        {"EXCLUDE": "*.tmp,*/_temporary/*,a b/*"},
        {"EXCLUDE": '模型/*,x"y,a.b'},
    ],
)
@one_cloud
@one_cli
def test_a_rule_takes_the_keys_that_are_synced(account: Account, settings: dict[str, str]) -> None:
    keys = ["x.tmp", "a/x.tmp", "x.tmp/y", "xtmp", "a/_temporary/b", "_temporary/b", "a b/+c", "a b/c", "a+b/c", "100%"]
    keys += ["100%25", "模型/a", "模型", 'x"y', "a.b", "axb", "A.B"]
    prefixes = tuple(listed(settings.get("PREFIX_FILTER", "")))
    for key in keys:
        event = {"id": "1", "source": "aws.s3", "detail-type": "Object Created", "account": "1", "region": "us-east-1"}
        event |= {"time": "2026-01-01T00:00:00Z", "resources": [], "detail": {"bucket": {"name": "their-source"}}}
        event["detail"]["object"] = {"key": key}  # type: ignore[index]
        answer = account.client("events").test_event_pattern(EventPattern=pattern(**settings), Event=json.dumps(event))
        excluded = any(fnmatch.fnmatchcase(key, glob) for glob in settings.get("EXCLUDE", "").split(","))
        assert answer["Result"] == (key.startswith(prefixes) and not excluded), key


# --- rights and variables -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", "*"),
        ("models/", "models/*"),
        ("b/,a/", ["a/*", "b/*"]),
        ("data/模/,dat/x,data/型/", ["dat/x*", "data/*"]),
        ("data/模,data/x,b", ["b*", "data/*"]),
        ("模型/,a/,b/", "*"),
        ("é b/,a\\,b/", ["a,b/*", "é b/*"]),
    ],
)
def test_the_role_may_read_the_prefixes_as_far_as_a_policy_can_say_them(text: str, keys: Any) -> None:
    granted = next(found for found in task_policy(PREFIX_FILTER=text) if found["Action"] == "s3:GetObject")
    wanted = (
        [f"arn:aws:s3:::their-source/{key}" for key in keys]
        if isinstance(keys, list)
        else f"arn:aws:s3:::their-source/{keys}"
    )
    assert granted["Resource"] == wanted


@pytest.mark.parametrize("prefixes", [TWENTY, QUOTES])
def test_the_policy_has_room_for_the_most_prefixes(prefixes: str) -> None:
    policy = without_account("starter_policy", **LARGEST | {"PREFIX_FILTER": prefixes})
    assert len(json.dumps(policy, separators=(",", ":"))) < MOST_OF_A_POLICY


@pytest.mark.parametrize("copies", ["true", "false"])
def test_the_variables_have_room_for_the_most_prefixes(copies: str) -> None:
    settings = LARGEST | {"PREFIX_FILTER": TWENTY, "STARTER_COPIES": copies}
    variables = without_account('with_pause "$(function_configuration)"', **settings)["Environment"]["Variables"]
    assert variables["PREFIX_FILTER"] == TWENTY
    assert len(json.dumps(variables, separators=(",", ":"))) < MOST_VARIABLES


# --- EXCLUDE as the workers read it ---------------------------------------------------------------------------------

GLOBS = [
    "*.tmp",
    "a*b",
    "?",
    "a?c",
    "[ab]",
    "[!ab]x",
    "[a-c]",
    "[c-a]",
    "[!c-a]",
    "[]]",
    "[]-a]",
    "[!]]",
    "[!]",
    "[",
    "a[b",
]
GLOBS += [
    "[a-]",
    "[-a]",
    "[--0]",
    "[a-b-d]",
    "[^a]",
    "[\\]",
    "a\\b",
    "a.b",
    "(a|b)+",
    "^a$",
    "{1}",
    "[[]x",
    "[&&a]",
    "**",
    "*a*a*b",
]
KEYS = [
    "a",
    "b",
    "c",
    "d",
    "-",
    "^",
    "]",
    "[",
    "\\",
    "&",
    "0",
    "abc",
    "ax",
    "cx",
    "]x",
    "[x",
    "a[b",
    "a\\b",
    "a.b",
    "axb",
    "^a$",
]
KEYS += ["(a|b)+", "{1}", "x.tmp", "a/x.tmp", "é", "!", "", "[!]", "[]", "aab"]


def test_the_scripts_read_a_pattern_as_the_workers_do() -> None:
    script = 'for glob in "$@"; do printf "%s\\n" "${keys[@]}" | patterns_for "$glob"; done'
    arguments = " ".join(map(shlex.quote, KEYS))
    globs = " ".join(map(shlex.quote, GLOBS))
    found = bash(f"keys=({arguments}); set -- {globs}; {script}").splitlines()
    assert found == [f"{key}\t{glob}" for glob in GLOBS for key in KEYS if fnmatch.fnmatchcase(key, glob)]


def test_no_pattern_takes_long() -> None:
    for glob in ("*a" * 249 + "*b", "*?" * 249 + "b", "*[!b]" * 99 + "*b"):
        assert bash(f"printf '%s\\n' {'a' * 1024} | patterns_for '{glob}'") == ""


# --- a deployment ---------------------------------------------------------------------------------------------------


def in_bucket(account: Account) -> list[dict[str, Any]]:
    found = account.client("s3").get_bucket_notification_configuration(Bucket=SOURCE)
    return list(found["QueueConfigurations"])


def put_keys(account: Account, *keys: str) -> set[str]:
    """The keys whose events came to the queue."""
    for key in keys:
        account.client("s3").put_object(Bucket=SOURCE, Key=key, Body=b"x")
    return {unquote_plus(key) for key in keys_in_queue(account)}


@one_cloud
@one_cli
def test_prefixes_are_added_and_taken_away(account: Account) -> None:
    theirs = in_bucket(account)
    account.deployed(PREFIX_FILTER="models/")
    (first,) = [found for found in in_bucket(account) if found["Id"] == APP]

    several = {"PREFIX_FILTER": "models/,caf\u00e9 a/,models/v1/"}
    notification = f"notification {SOURCE} {APP}"
    output, errors = account.run("deploy.sh", "--dry-run", **several)
    assert f"{notification}: would change (2 prefixes, not 1)" in output
    assert "- Existing objects under caf\u00e9 a/ are not copied yet. To copy them: ./sync.sh reconcile\n" in output
    assert account.recorder.writes == []
    output, errors = account.run("deploy.sh", **several)
    assert dict(re.findall(CHANGED, output)) == {
        f"role {APP}-task-role": "policy",
        f"task definition {APP}-task": "containerDefinitions",
        f"function {APP}-starter": "Environment",
        notification: "2 prefixes, not 1",
    }
    assert "PREFIX_FILTER: models/v1/ is covered by models/\n" in errors
    part = f"s3://{SOURCE}/caf\u00e9 a/ or s3://{SOURCE}/models/"
    assert f"From now on, changes in\n  {part}\nare copied to\n" in output
    assert "- Existing objects under caf\u00e9 a/ are not copied yet. To copy them: ./sync.sh reconcile\n" in output
    assert put_keys(account, "models/x", "caf\u00e9 a/x", "caf\u00e9 b", "x") == {"models/x", "caf\u00e9 a/x"}
    assert_conforming(account)
    output, _ = account.steps("ensure_notification", "ensure_function", "ensure_task_role", **several)
    assert set(states(output)) == {"exists"}

    output, _ = account.run("deploy.sh", PREFIX_FILTER="models/")
    assert "Since the last" in output
    assert f"{notification}: changed (1 prefix, not 2)" in output
    assert "rm --recursive 's3://mirror--use1-az4--x-s3/caf\u00e9 a/'\n" in output
    assert sorted(in_bucket(account), key=str) == sorted([*theirs, first], key=str)
    account.steps("ensure_notification", PREFIX_FILTER="a/,b/,c/")
    output, _ = account.run("cleanup.sh", "--dry-run")
    assert f"notification {SOURCE} (only {APP}, {APP}-2, {APP}-3)" in output
    account.result_of(account.start_removal("notification"))
    assert in_bucket(account) == theirs


@one_cloud
@one_cli
def test_with_eventbridge_the_rule_has_the_prefixes_or_what_is_excluded(account: Account) -> None:
    bridge = {"EVENT_SOURCE": "eventbridge", "CHANGEOVER_SECONDS": "1"}
    account.deployed()
    account.steps("ensure_notification", PREFIX_FILTER="a/,b/")
    for settings, filtered in (
        ({"PREFIX_FILTER": "a/,b/"}, [{"prefix": "a/"}, {"prefix": "b/"}]),
        ({"PREFIX_FILTER": "", "EXCLUDE": "*.tmp"}, [{"anything-but": {"wildcard": ["*.tmp"]}}]),
    ):
        account.steps("ensure_function", *CHANGING, **settings, **bridge)
        rule = account.client("events").describe_rule(Name=f"{APP}-event-rule")
        assert json.loads(rule["EventPattern"])["detail"]["object"]["key"] == filtered
        assert [found["Id"] for found in in_bucket(account)] == ["theirs"]
        assert set(states(account.steps("ensure_function", *CHANGING, **settings, **bridge)[0])) == {"exists"}
    assert account.starter_environment()["EXCLUDE"] == "*.tmp"
    assert_conforming(account)
