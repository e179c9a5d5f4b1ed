"""Several prefixes and EXCLUDE: what is refused, said and made of them: notifications, rule, policies, variables."""

import fnmatch
import itertools
import json
import shlex
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from account import APP, SOURCE
from documents import Scripts, scripts_of_module
from paper_account import PaperAccount
from policies_and_patterns import as_list, matches
from test_function_that_copies import MOST_OF_A_POLICY, MOST_VARIABLES, largest
from test_settings import bash, problems

QUEUE = f"arn:aws:sqs:us-east-1:123456789012:{APP}-q"
TWENTY = ",".join(f"{'p' * 47}{number:03}" for number in range(20))  # 1,019 bytes
QUOTES = ",".join(f"{number:02}{'"' * 48}" for number in range(20))  # 1,019 bytes, and twice as many in JSON

scripts = scripts_of_module()


def listed(text: str) -> list[str]:
    """Several prefixes as a setting says them, read by the scripts."""
    return json.loads(bash("wanted | jq .prefixes", PREFIX_FILTER=text))


# --- what is refused ------------------------------------------------------------------------------------------------

BRIDGE, TWO = {"EVENT_SOURCE": "eventbridge"}, {"PREFIX_FILTER": "a/,b[1]/"}
# All of them are variables of the function; COPY_LAST has at most 500 characters, which may be 2,000 bytes.
MOST = {"PREFIX_FILTER": "a" * 1024, "EXCLUDE": "x" * 500, "COPY_LAST": "é" * 250}
REFUSED: list[tuple[dict[str, str], str]] = [
    ({"PREFIX_FILTER": "a/,,b/"}, 'item 2, "", is empty or has a space next to a comma: set a/,b/'),
    ({"PREFIX_FILTER": ","}, ": set nothing\n"),
    ({"PREFIX_FILTER": "a\\,/ , b/"}, 'item 1, "a,/ ", is empty or has a space next to a comma: set a\\,/,b/'),
    ({"PREFIX_FILTER": "a/,b?/"}, 'without * ? and $ instead of "b?/", which IAM would read as wildcards'),
    ({"PREFIX_FILTER": f"a/,{'é' * 200}"}, f'a shorter prefix instead of "{"é" * 200}", because it has 1200'),
    ({"PREFIX_FILTER": f"{'a' * 512},{'b' * 512}"}, "of at most 1024 bytes in all, not 1025"),
    ({"PREFIX_FILTER": ",".join("abcdefghijklmnopqrstu")}, "set at most 20 prefixes, not 21"),
    ({"PREFIX_FILTER": QUOTES, **BRIDGE}, "because EventBridge takes a pattern of 2048 characters, and this one"),
    ({"EXCLUDE": "*.tmp, *.bak"}, ": set *.tmp,*.bak\n"),
    ({"EXCLUDE": "*.t\udcffmp"}, "=$'*.t\\377mp': set patterns of UTF-8"),
    ({"EXCLUDE": "é" * 251}, "of at most 500 bytes in all, not 502"),
    ({"EXCLUDE": "*.tmp,**"}, "** leaves out every key"),
    ({"EXCLUDE": "a/*,[!a]*", **TWO}, "leaves out every key of PREFIX_FILTER=a/,b[1]/, so that nothing would be"),
    (MOST | {"COPY_LAST": "é" * 251}, ", EXCLUDE and COPY_LAST together have 2026 bytes: set fewer or shorter ones"),
]
ALLOWED: list[dict[str, str]] = [
    *({"PREFIX_FILTER": text} for text in (TWENTY, QUOTES, " a b/ ", "a b/\\, c/", "a/,a/,a/b/", "a b/,é+%/,模型/")),
    {"PREFIX_FILTER": TWENTY, **BRIDGE},
    {"PREFIX_FILTER": ",".join(["a" * 511, "b" * 512])},
    *({"EXCLUDE": text} for text in ("*.tmp,*/_temporary/*", "a\\, b*,?,??*,[*],x y", "x" * 500)),
    *(
        TWO | {"EXCLUDE": some}
        for some in ("a/*", "*/*.tmp", "a/*.tmp,b[[]1]/*.tmp", "a/x*,b*x", "[a-b]/*", "a/,b[[]1]/")
    ),
    MOST,
]


def test_what_is_no_list_is_refused_with_what_to_write_instead_and_what_is_one_is_taken(tmp_path: Path) -> None:
    for settings, message in REFUSED:
        (problem,) = problems(tmp_path, **settings)
        assert message.rstrip() in problem
        assert problem.startswith(next(iter(settings)))
    for settings in ALLOWED:
        assert problems(tmp_path, **settings) == [], settings


def test_a_marker_is_no_file_of_a_tables_log(tmp_path: Path) -> None:
    files = ("a/*.json", f"_delta_log/{0:019}[!0].crc", "*.0000000002.parquet")
    for pattern in (*files, "a/*/_SUCCESS", "*_delta_log*"):
        found = problems(tmp_path, TABLES="delta", COPY_LAST=f"_DONE,{pattern}")
        assert len(found) == (pattern in files)
        assert all(f"remove {pattern}, which can match files of a table's log" in problem for problem in found)
    assert problems(tmp_path, COPY_LAST="a/*.json") == []


# --- what is said ---------------------------------------------------------------------------------------------------


def change(old: dict[str, str], new: dict[str, str]) -> list[str]:
    """What deploy.sh says after a change of the settings of a deployment."""
    return bash(after(old), **new).splitlines()[2:]


def after(old: dict[str, str]) -> str:
    environment = [{"name": name, "value": value} for name, value in old.items()]
    definition = json.dumps({"containerDefinitions": [{"name": "worker", "environment": environment}]})
    return f"keep last_definition <<<{shlex.quote(definition)}; tell_of_change"


def test_a_change_says_what_a_reconcile_brings_and_what_is_unwanted() -> None:
    same = {"PREFIX_FILTER": "a/,b/", "EXCLUDE": "*.tmp"}
    assert change(same, {"PREFIX_FILTER": "b/,a/,b/c/", "EXCLUDE": "*.tmp,*.tmp"}) == change({}, {}) == []
    assert bash("keep last_definition </dev/null; tell_of_change", PREFIX_FILTER="a/") == ""  # the first deployment
    assert change({"PREFIX_FILTER": "a/"}, same) == [
        "- Existing objects under b/ are not copied yet. To copy them: ./sync.sh reconcile",
        "- Copies like *.tmp are unwanted now. ./sync.sh reconcile counts them, and deletes them with: "
        "--remove-unwanted",
    ]
    assert change(same, {}) == [
        "- Existing objects are not copied yet. To copy them: ./sync.sh reconcile",
        "- Keys like *.tmp are no longer left out. To copy them: ./sync.sh reconcile",
    ]


def deleted(command: str, keys: list[str]) -> set[str]:
    """What `aws s3 rm --recursive` deletes: the last pattern that matches counts, and patterns begin where the folder
    ends (AWS CLI Command Reference, s3, "Use of Exclude and Include Filters")."""
    words = shlex.split(command)
    folder, options = words[4].removeprefix("s3://copies/"), words[5:]
    found = {key: True for key in keys if key.startswith(folder)}
    for option, pattern in zip(options[::2], options[1::2], strict=True):
        found |= {key: option == "--include" for key in found if fnmatch.fnmatchcase(key, folder + pattern)}
    return {key for key, is_deleted in found.items() if is_deleted}


def test_the_command_that_is_told_deletes_what_is_synced_no_longer_and_nothing_else() -> None:
    """Of all keys those that only the old prefixes take, for each change of one of these lists into another."""
    keys = ["a/x", "a/b/x", "a/bc", "a/b/c/x", "ab", "m[o]/v1", "m[o]/v2", "mo/v1", "it's/x", "é f/x", "z", "a/[x]/y"]
    texts = ("", "a/", "a/b", "a/b/c/,z", "m[o]/v,it's/", "m[o]/v2", "é f/,a/", "a/[x]/")
    lists = {text: listed(text) for text in texts}
    pairs = list(itertools.permutations(texts, 2))
    tells = [f"echo pair; PREFIX_FILTER={shlex.quote(new)}; {after({'PREFIX_FILTER': old})}" for old, new in pairs]
    output = bash("; ".join(tells), DST_BUCKET="copies")
    for (old, new), told in zip(pairs, output.split("pair\n")[1:], strict=True):
        before = "nothing looks at them any more. To delete them (first with --dryrun): "
        commands = [line.partition(before)[2] for line in told.splitlines() if "aws s3 rm" in line]
        gone = {key for command in commands for key in deleted(command, keys)}
        stays = tuple(lists[new])
        assert gone == {key for key in keys if key.startswith(tuple(lists[old])) and not key.startswith(stays)}, told


# --- notifications --------------------------------------------------------------------------------------------------


def notifications(**settings: str) -> list[dict[str, Any]]:
    return json.loads(bash("fact our_notifications", **settings))


def filters(found: list[dict[str, Any]]) -> list[str]:
    return [rule["Value"] for one in found for rule in one.get("Filter", {}).get("Key", {}).get("FilterRules", [])]


@pytest.mark.parametrize("alphabet", [("a", " ", "+", "%", "%20", ",", "é", "/", "模", "\\"), "a'!(=&#A1-"])
def test_a_key_of_a_prefix_has_exactly_one_notification_and_another_key_none(alphabet: tuple[str, ...]) -> None:
    """S3 compares a filter with the key as its events write it, and refuses two that both take a key."""
    text = ",".join("".join(pair).replace(",", "\\,") for pair in itertools.product(alphabet, "/b")).strip()
    found = notifications(PREFIX_FILTER=text)
    synced, values = listed(text), filters(found)
    assert len(synced) == len(values) == 20
    assert [one["Id"] for one in found] == [APP, *(f"{APP}-{number}" for number in range(2, 21))]
    assert all(one["QueueArn"] == QUEUE and one["Events"] == found[0]["Events"] for one in found)
    for key in ("".join(letters) for letters in itertools.product((*alphabet, "b"), repeat=3)):
        hits = [value for value in values if quote_plus(key, safe="/").startswith(value)]
        assert len(hits) == key.startswith(tuple(synced)), key


def test_prefixes_that_another_one_covers_have_no_notification_of_their_own() -> None:
    for text, values in (("", []), ("b,a,b", ["a", "b"]), ("a/b/,a/,ab,a", ["a"]), ("a/,a/b/,ab", ["a/", "ab"])):
        assert filters(notifications(PREFIX_FILTER=text)) == values


def other(prefix: str, **changed: Any) -> dict[str, Any]:
    rules = {"Key": {"FilterRules": [{"Name": "Prefix", "Value": prefix}]}}
    return {"Id": "theirs", "QueueArn": "arn:theirs", "Events": ["s3:ObjectCreated:Put"], "Filter": rules} | changed


ONLY_ONE = "and S3 allows only one per event and key"
NINETY_EIGHT = [other(f"other/{number}/", Id=str(number)) for number in range(98)]
NAMED_SO = [other("z/", Id=f"{APP}-2"), other("y/", Id=f"{APP}-3")]
CHECKED: list[tuple[str, str, list[dict[str, Any]], str]] = [
    ("a/,b c/", "QueueConfigurations", [other("a/x")], ONLY_ONE),
    ("a/,b c/", "TopicConfigurations", [other("b+c/")], ONLY_ONE),
    ("a/,b c/", "LambdaFunctionConfigurations", [other("")], ONLY_ONE),
    ("a/,b c/", "QueueConfigurations", [other("c/"), other("a/x", QueueArn=QUEUE)], ""),
    ("a/", "QueueConfigurations", NAMED_SO, ""),
    ("a/", "QueueConfigurations", [other("z/", Id=APP)], "this name already, to the queue arn:theirs of another"),
    ("a/,b/", "QueueConfigurations", NAMED_SO, f"the name {APP}-2 already, to the queue arn:theirs of another"),
    ("a/,b/", "QueueConfigurations", NINETY_EIGHT, ""),
    ("a/,b/,c/", "QueueConfigurations", NINETY_EIGHT, "has 98 notifications of others, and S3 allows 100 for a bucket"),
]


def having(found: list[dict[str, Any]], kind: str = "QueueConfigurations") -> PaperAccount:
    account = PaperAccount()
    arn = f"{kind.removesuffix('Configurations')}Arn"
    account.kept[f"notifications {SOURCE}"] = {
        kind: [{arn if name == "QueueArn" else name: value for name, value in one.items()} for one in found]
    }
    return account


@pytest.mark.parametrize(("prefixes", "kind", "have", "said"), CHECKED)
def test_what_others_have_is_a_problem_if_s3_would_refuse_ours_beside_it(
    scripts: Scripts, prefixes: str, kind: str, have: list[dict[str, Any]], said: str
) -> None:
    scripts.account = having(have, kind)
    ran = scripts.deploy(status=2, PREFIX_FILTER=prefixes, MAX_WORKERS="many")  # it ends before there is a plan
    assert said in " ".join(ran.errors.split())
    assert ran.errors.count("\n- ") == (2 if said else 1)


# --- the rule of EventBridge ----------------------------------------------------------------------------------------


def pattern(**settings: str) -> str:
    return bash("event_pattern", **settings)


def key_filter(**settings: str) -> Any:
    return json.loads(pattern(**settings))["detail"].get("object", {}).get("key")


@pytest.mark.parametrize(
    ("settings", "is_exact"),
    [
        ({}, True),
        ({"PREFIX_FILTER": "a b/+,模型/,100%"}, True),
        ({"EXCLUDE": "*.tmp,*/_temporary/*,a b/*"}, True),
        ({"EXCLUDE": '模型/*,x"y,a.b'}, True),
        ({"PREFIX_FILTER": "a/,b/,a/x", "EXCLUDE": "*.tmp"}, False),
        ({"EXCLUDE": "a?,[x]*,x**,a\\*b,a.b"}, False),
    ],
)
def test_a_rule_takes_the_keys_that_are_synced_as_far_as_its_language_goes(
    settings: dict[str, str], is_exact: bool
) -> None:
    keys = ["x.tmp", "a/x.tmp", "x.tmp/y", "xtmp", "a/_temporary/b", "_temporary/b", "a b/+c", "a b/c", "a+b/c", "100%"]
    keys += ["100%25", "模型/a", "模型", 'x"y', "a.b", "axb", "A.B", "ab", "a\\b"]
    prefixes, rule = tuple(listed(settings.get("PREFIX_FILTER", ""))), json.loads(pattern(**settings))
    event: dict[str, Any] = {"source": "aws.s3", "detail-type": "Object Created"}
    event["detail"] = {"bucket": {"name": "their-source"}}
    taken = {key for key in keys if matches(rule, event | {"detail": event["detail"] | {"object": {"key": key}}})}
    excluded = {key for glob in settings.get("EXCLUDE", "").split(",") for key in fnmatch.filter(keys, glob)}
    synced = {key for key in keys if key.startswith(prefixes)} - excluded
    assert taken == synced if is_exact else taken > synced
    assert ("a.b" in taken) == ("a.b" not in settings.get("EXCLUDE", "") and "a.b".startswith(prefixes))


def test_no_rule_is_too_complex_or_too_long_for_eventbridge() -> None:
    """A report from the field: of such wildcards EventBridge takes three in one rule, and not four. Others it reads in
    another way than the workers."""
    names = ["first", "second", "third", "fourth"]
    assert key_filter(EXCLUDE=",".join(f"*:stack/{name}/*" for name in names)) == [
        {"anything-but": {"wildcard": [f"*:stack/{name}/*" for name in names[:3]]}}
    ]
    for left_out in ("*aaaaaaaaaa,*a*a*a*a*a*a", "*模型模型模型模型模型", "a?,[b]*,c**,d\\*e"):
        assert key_filter(EXCLUDE=f"{left_out},*.b") == [{"anything-but": {"wildcard": ["*.b"]}}]
    largest = [{"EXCLUDE": '"' * 500}, {"EXCLUDE": ",".join(["a"] * 250)}, {"PREFIX_FILTER": TWENTY}]
    assert all(len(pattern(SRC_BUCKET="b" * 63, **settings).encode()) < 2048 for settings in largest)


# --- rights and variables -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("", ["*"]),
        ("b/,a/", ["a/*", "b/*"]),
        ("data/模/,dat/x,data/型/", ["dat/x*", "data/*"]),
        ("data/模,data/x,b", ["b*", "data/*"]),
        ("模型/,a/,b/", ["*"]),
        ("é b/,a\\,b/", ["a,b/*", "é b/*"]),
    ],
)
def test_the_role_may_read_the_prefixes_as_far_as_a_policy_can_say_them(
    scripts: Scripts, text: str, keys: list[str]
) -> None:
    account = scripts.account = PaperAccount()
    scripts.step(f"ensure_role {APP}-task-role", PREFIX_FILTER=text)
    statements = json.loads(account.kept[f"role {APP}-task-role"]["policies"][APP])["Statement"]
    (granted,) = [one for one in statements if one["Action"] == "s3:GetObject"]
    assert as_list(granted["Resource"]) == [f"arn:aws:s3:::their-source/{key}" for key in keys]


def test_the_policy_and_the_variables_have_room_for_the_most_prefixes(scripts: Scripts) -> None:
    for prefixes in (TWENTY, QUOTES):
        variables, policy = largest(scripts, PREFIX_FILTER=prefixes)
        assert policy < MOST_OF_A_POLICY
        assert prefixes == QUOTES or variables < MOST_VARIABLES
