r"""usage: ./sync.sh explain [--since 1d] [--json] [--] KEY

Why one key is in the destination or not, and what to do.

Prints one word, then what both buckets have under the key, what the settings
say about it, its last log lines, and why a message on it is in the dead-letter
queue. The words are equal, missing, stale, corrupt (S3's checksums differ,
although the copy says that it is equal), ghost (only the destination has it),
foreign (the same, and it does not say that the sync wrote it), absent (neither
has it), archived, expired (KEEP_DAYS), excluded (EXCLUDE, PREFIX_FILTER), waits
(for other keys, by COPY_LAST or TABLES), unknown (a bucket could not be read;
the output names the missing permission).

  KEY         as it is, in quotes for the shell, such as 'a b/größe %.txt' or
              $'two\nlines'; after -- if it begins with a hyphen
  --since 1d  how far back the log is read: a number and s, m, h or d
  --json      the same as JSON on stdout, with ETags and checksums

The word comes from the workers' own rules. You need s3:GetObject and
s3:ListBucket on the source (if it is versioned, s3:ListBucketVersions),
s3express:CreateSession on the destination.

Exit status: 0 equal, absent, expired or excluded; 1 anything else, or an error;
2 wrong usage.
"""

from __future__ import annotations

import json
import re
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from mirror.protocol.verdict import ARCHIVED, FOREIGN
from operate import explanation, logs, text
from operate.cloud import Answer, Cloud, Denied, Missing, NoAnswer, Once, side_by_side
from operate.dead_letters import Looked, look_at_messages, unseen, with_reasons
from operate.deployment import Deployment
from operate.failure import wrong_usage
from operate.options import duration_of, value_of
from operate.parts import (
    Part,
    deployed_settings,
    is_unread,
    no_function,
    numbers_of,
    read_function,
    read_queue,
    variables_of,
)
from operate.report import waiting
from operate.text import quoted

MOST_BYTES = 1024  # of a key (S3 User Guide, "Naming Amazon S3 objects")
LINES = 5
SETTINGS = ("PREFIX_FILTER", "EXCLUDE", "KEEP_DAYS", "COPY_LAST", "TABLES")
COLOURS = {
    **dict.fromkeys(explanation.RIGHTLY, text.GREEN),
    **dict.fromkeys((explanation.WAITS, ARCHIVED, FOREIGN), text.AMBER),
}
SIDES = {"source": "SRC_BUCKET", "destination": "DST_BUCKET"}


class Options(NamedTuple):
    key: str
    seconds: int = 86_400
    as_json: bool = False


def parse(words: Sequence[str]) -> Options:
    keys: list[str] = []
    since, as_json, left = "1d", False, list(words)
    while left:
        word = left.pop(0)
        if word == "--json":
            as_json = True
        elif word == "--since":
            since = value_of(word, left)
        elif word == "--":
            keys += left
            break
        elif word.startswith("-"):
            said = f"unknown option {text.visible(word)}; a key that begins with a hyphen goes after --"
            raise wrong_usage(f"explain: {said}")
        else:
            keys.append(word)

    if len(keys) != 1:
        raise wrong_usage("explain: name one key, in quotes if it has spaces")
    return Options(checked_key(keys[0]), duration_of("explain: --since", since, "1d"), as_json)


def checked_key(key: str) -> str:
    length = len(key.encode(errors="surrogateescape"))
    if not 0 < length <= MOST_BYTES:
        raise wrong_usage(f"explain: a key has 1 to {MOST_BYTES} bytes, and this one has {length}")
    if re.search("[\ud800-\udfff]", key):
        raise wrong_usage("explain: the key is not UTF-8")
    return key


def run(options: Options, deployment: Deployment, cloud: Cloud) -> int:
    with text.progress("explain: asking AWS"):
        facts = gather(cloud, deployment, options)
    found = explanation.explain(facts, time.time())
    errors = facts["errors"]

    if options.as_json:
        text.print_json({**found, **({"errors": errors} if errors else {})})
    else:
        text.paint(COLOURS.get(found["verdict"], text.RED), found["verdict"])
        text.print_rows(rows(found, errors))
    return 0 if found["is_right"] else 1


# --- both buckets ----------------------------------------------------------------------------------------------------


class Bucket(NamedTuple):
    """A side, and the key that is asked for."""

    cloud: Cloud
    deployment: Deployment
    side: str
    key: str

    @property
    def name(self) -> str:
        return self.deployment.settings[SIDES[self.side]]

    def ask(self, operation: str, member: str, *more: str) -> Answer:
        """For the key, or for what begins with it. Not as an option of its own: the CLI takes the value file://x for
        the content of a file."""
        owner = self.deployment.settings[f"{SIDES[self.side]}_OWNER"]
        given: dict[str, Any] = {"Bucket": self.name, "ExpectedBucketOwner": owner, member: self.key}
        if member == "Prefix":
            given["MaxKeys"] = 1
        return self.cloud.ask("s3api", operation, "--cli-input-json", json.dumps(given), *more)


def look_at(bucket: Bucket) -> dict[str, Any]:
    """The head that S3 shows, with why it shows no checksum if it refused that; nothing if there is no such object; or
    the problem."""
    answer, refused = bucket.ask("head-object", "Key", "--checksum-mode", "ENABLED"), ""
    if not isinstance(answer, dict) and answer.code != "404":
        refused = answer.error
        answer = bucket.ask("head-object", "Key")
    if isinstance(answer, dict):
        return {"head": answer, **({"refused": refused} if refused else {})}
    return no_source(bucket, answer) if bucket.side == "source" else no_destination(bucket, answer)


def no_source(bucket: Bucket, answer: Any) -> dict[str, Any]:
    if answer.code == "404":
        return missing_source(bucket)
    if answer.code == "403":
        return denied_source(bucket)
    if answer.code == "400":
        said = "it is encrypted with SSE-C: S3 shows it only with its key, which the sync does not have"
        return {"problem": said}
    return {"problem": answer.error}


def missing_source(bucket: Bucket) -> dict[str, Any]:
    """A missing bucket answers a look with 404, too, and a deleted object of a versioned bucket has a marker."""
    found = bucket.ask("list-object-versions", "Prefix", "--no-paginate")
    if isinstance(found, Denied):
        grant = f"grant yourself s3:ListBucketVersions on arn:aws:s3:::{bucket.name}"
        return {"note": f"whether it was deleted is not known: {grant}"}
    if isinstance(found, (Missing, NoAnswer)):
        return {"problem": found.error}

    for marker in found.get("DeleteMarkers", []):
        if marker["Key"] == bucket.key and marker["IsLatest"]:
            return {"delete_marker": {"version": marker["VersionId"], "at": marker["LastModified"]}}
    return {}


def denied_source(bucket: Bucket) -> dict[str, Any]:
    objects = f"arn:aws:s3:::{bucket.name}/*"
    found = bucket.ask("list-objects-v2", "Prefix", "--no-paginate")
    if not isinstance(found, dict):
        grant = f"grant yourself s3:GetObject on {objects}, and s3:ListBucket on arn:aws:s3:::{bucket.name}"
        return {"problem": f"denied: {grant}, without which S3 also denies a key that does not exist"}

    grant = f"grant yourself s3:GetObject on {objects}, and kms:Decrypt if it is encrypted with a KMS key"
    listed = [one for one in found.get("Contents", []) if one["Key"] == bucket.key]
    more = {"listed": {"size": listed[0]["Size"], "modified": listed[0]["LastModified"]}} if listed else {}
    return {"problem": f"denied: {grant}", **more}


def no_destination(bucket: Bucket, answer: Any) -> dict[str, Any]:
    if answer.code == "404":
        return {}
    if answer.code in ("403", "AccessDenied"):
        grant = f"grant yourself s3express:CreateSession on {bucket.deployment.dst_bucket_arn}"
        return {"problem": f"denied: {grant}: {answer.error}"}
    return {"problem": answer.error}


# --- the log and the queues ------------------------------------------------------------------------------------------


def read_messages(cloud: Cloud, deployment: Deployment) -> Part:
    """How many the queue has."""
    queue = read_queue(cloud, deployment.queue_name)
    if queue is None:
        cure = f"run ./deploy.sh{deployment.via}, or set REGION and APP_NAME"
        return NoAnswer(f"there is no queue {deployment.queue_name} in {deployment.region}: {cure}")
    return queue if isinstance(queue, (Denied, NoAnswer)) else numbers_of(queue)


def read_parked(cloud: Cloud, deployment: Deployment, key: str, groups: Sequence[str]) -> Part:
    """Why messages on the key are in the dead-letter queue."""
    looked = look_at_messages(cloud, deployment)
    if not isinstance(looked, Looked):
        return looked
    hint = unseen(looked)
    if hint:
        text.say(hint)
    messages = [{**message, "keys": [key]} for message in looked.messages if key in message["keys"]]
    return [{**one["keys"][0], "sent": one["sent"]} for one in with_reasons(cloud, groups, messages)]


def gather(cloud: Cloud, deployment: Deployment, options: Options) -> dict[str, Any]:
    """The facts that explanation.explain() reads, with the errors of what is not known."""
    function = Once[Part](lambda: read_function(cloud, deployment))
    if function() is None:
        raise no_function(deployment)
    settings, key = deployed_settings(deployment), options.key

    def groups() -> list[str]:
        copies = variables_of(function()).get("STARTER_COPIES") == "true"
        return logs.groups_of(deployment, copies or is_unread(function()))

    found = side_by_side(
        {
            "function": function,
            "source": lambda: look_at(Bucket(cloud, deployment, "source", key)),
            "destination": lambda: look_at(Bucket(cloud, deployment, "destination", key)),
            "queue": lambda: read_messages(cloud, deployment),
            "dead_letters": lambda: read_parked(cloud, deployment, key, groups()),
            "log": lambda: logs.query(cloud, groups(), options.seconds, logs.newest(logs.lines_on(key), LINES)),
        }
    )
    errors = {name: part.error for name, part in found.items() if isinstance(part, (Denied, NoAnswer))}
    lines = [] if "log" in errors else [line.rstrip("\n") for line in logs.messages(found["log"])]
    waits = logs.waits(lines)
    example = max(waits, key=lambda wait: str(wait["at"]))["example"] if waits else ""
    return {
        "key": key,
        "quoted": for_shell(key),
        "quoted_example": for_shell(example) if example else "",
        "via": deployment.via,
        "settings": {name: settings.get(name, "") for name in SETTINGS},
        "sides": {name: found[name] for name in SIDES},
        "queue": None if "queue" in errors else found["queue"],
        "dead_letters": [] if "dead_letters" in errors else found["dead_letters"],
        "paused_since": variables_of(found["function"]).get("PAUSED_SINCE", ""),
        "log": lines[::-1],
        "markers": waits,
        "synced": max(logs.synced_at(lines).values(), default=""),
        "not_known": sorted(errors),
        "errors": errors,
    }


def for_shell(key: str) -> str:
    """The key as one word of a command, on one line."""
    if key.isprintable():
        return shlex.quote(key)
    escaped = "".join(one if one.isprintable() and one not in "\\'" else escape(one) for one in key)
    return f"$'{escaped}'"


def escape(sign: str) -> str:
    return f"\\{sign}" if sign in "\\'" else "".join(f"\\x{byte:02x}" for byte in sign.encode())


# --- the answer ------------------------------------------------------------------------------------------------------


def rows(found: Mapping[str, Any], errors: Mapping[str, str]) -> Iterator[str]:
    yield f"  {found['meaning']}"
    yield ""
    yield text.row("key", quoted(found["key"]))
    yield text.row("source", side(found["source"]))
    yield text.row("destination", side(found["destination"]))
    if (found["destination"] or {}).get("copy_of") == "":
        yield text.row("copy of", "unknown: it does not say what it was copied from, so size and time decide")
    if found["checksums"]:
        yield text.row("checksums", found["checksums"])
    yield from (text.row(name, said) for name, said in found["settings"].items())
    if found["waits"]:
        yield text.row("waits", waiting(found["waits"]))
    if found["queue"]:
        queue = found["queue"]
        counts = f"{queue['visible']} waiting, {queue['in_flight']} in flight, {queue['delayed']} delayed"
        yield text.row("queue", f"{counts}, of all keys")
    if found["paused_since"]:
        yield text.row("paused", f"since {found['paused_since']}")
    for letter in found["dead_letters"]:
        failed = f"failed {letter['at']}" if letter["at"] else "the failure is"
        yield text.row("dead letter", f"sent {letter['sent']}, {failed} {letter['reason']}")
    yield from (text.row("log", line) for line in found["log"])
    yield from (text.row(name.replace("_", " "), f"not known: {error}") for name, error in sorted(errors.items()))
    yield text.row("to do", found["advice"])


def side(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return "no such object"
    if one.get("problem"):
        listed = one.get("listed")
        more = f"; it is listed with {listed['size']} bytes, of {listed['modified']}" if listed else ""
        return f"{one['problem']}{more}"
    if one.get("delete_marker"):
        marker = one["delete_marker"]
        return f"deleted at {marker['at']}: the newest version is a delete marker, {marker['version']}"
    if one.get("note"):
        return f"no such object; {one['note']}"
    version = f", version {one['version']}" if one.get("version") else ""
    archived = f", archived: {one['archived']}" if one.get("archived") else ""
    return f"{one['size']} bytes, of {one['modified']}{version}{archived}"
