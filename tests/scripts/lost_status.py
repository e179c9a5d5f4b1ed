"""Where Bash drops the status of a call to AWS, by the syntax tree of `shfmt --to-json`.

A call that fails there looks like one that found nothing. `set -e` ends a script only for a command that stands by
itself, or for `x=$(command)` on a line of its own.
"""

import functools
import json
import re
import subprocess
from collections.abc import Iterator
from typing import Any, NamedTuple

Node = dict[str, Any]

# May be called in a condition, where `set -e` is off for all that they do, and why. So may a function whose last
# command is one of them, if nothing before it asks AWS.
MADE_FOR_CONDITIONS = {
    "try_aws": "leaves the error in AWS_ERROR; it makes one call",
    "aws_or_error": "prints the error in place of the answer",
    "fact_or_reason": "prints the reason in place of the answer",
    "aws": "is one call: the command after || or then says what its failure means",
}

# They ask AWS, whatever they are called with. The others are found by what they call.
ASKING = {"fact", "latest", *MADE_FOR_CONDITIONS}

CONDITION = "a condition"


class Loss(NamedTuple):
    line: int
    command: str  # that asks AWS
    place: str  # that drops its status


def tree(script: str) -> Node:
    done = subprocess.run(["shfmt", "--to-json"], input=script, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@functools.cache
def pipe() -> int:
    """The number that this version of shfmt has for `|`, beside `&&` and `||`."""
    return tree("a | b")["Stmts"][0]["Cmd"]["Op"]


def nodes(found: Any) -> Iterator[Node]:
    """All nodes of a tree, in their order."""
    if isinstance(found, dict):
        yield found
        for part in found.values():
            yield from nodes(part)
    elif isinstance(found, list):
        for part in found:
            yield from nodes(part)


def is_of(kind: str, node: Node) -> bool:
    return node.get("Type") == kind


def plain(word: Node) -> str:
    """A word as it is written, or nothing if it has to be expanded."""
    (part, *more) = word.get("Parts") or [{}]
    return part["Value"] if is_of("Lit", part) and not more else ""


def words_of(call: Node) -> list[str]:
    """Those that may name a command: one that is handed to another as well, as in `write one "$rule"`."""
    return [plain(word) for word in call.get("Args") or []]


def may_be_any(word: Node) -> bool:
    """Whether it names a command that a function was given, such as `"$@"`, `"$1"` and `"ask_$1"`."""
    return bool(re.search(r"[@0-9]", "".join(str(node["Param"]["Value"]) for node in nodes(word) if "Param" in node)))


def functions_of(script: Node) -> dict[str, Node]:
    return {node["Name"]["Value"]: node["Body"] for node in nodes(script) if is_of("FuncDecl", node)}


def asking(scripts: list[Node]) -> set[str]:
    """All functions that call AWS, or one that does."""
    called = {
        name: {word for node in nodes(body) if is_of("CallExpr", node) for word in words_of(node)}
        for script in scripts
        for name, body in functions_of(script).items()
    }
    found = set(ASKING)
    while more := {name for name, words in called.items() if words & found} - found:
        found |= more
    return found


def asks(found: Any, asking: set[str]) -> bool:
    return any(asking.intersection(words_of(node)) for node in nodes(found) if is_of("CallExpr", node))


def made_for_conditions(scripts: list[Node], asking: set[str]) -> set[str]:
    found = set(MADE_FOR_CONDITIONS)
    for script in scripts:
        for name, body in functions_of(script).items():
            *before, last = body["Cmd"].get("Stmts") or [{"Cmd": {}}]
            if words_of(last["Cmd"])[:1] and words_of(last["Cmd"])[0] in found and not asks(before, asking):
                found.add(name)
    return found


class Reader:
    """Goes through a script, and notes what asks AWS where its status is dropped."""

    def __init__(self, asking: set[str], made: set[str]) -> None:
        self.asking, self.made = asking, made
        self.losses: list[Loss] = []

    def read(self, found: Any, place: str = "") -> None:
        """The place is empty if the status of what is here counts."""
        if isinstance(found, list):
            for part in found:
                self.read(part, place)
        if not isinstance(found, dict):
            return
        if "Cmd" in found:
            self.read_statement(found, place)
            return
        handler = getattr(self, f"read_{found.get('Type', '').lower()}", None)
        if handler:
            handler(found, place)
        else:
            self.read(list(found.values()), place)

    def read_statement(self, found: Node, place: str) -> None:
        self.read_lost(found.get("Redirs"), "a redirection or a here-document")
        self.read(found["Cmd"], place or (CONDITION if found.get("Negated") else ""))

    def read_lost(self, found: Any, place: str) -> None:
        """Only what is expanded in it can be a command."""
        for part in nodes(found):
            if part.get("Type") in ("CmdSubst", "ProcSubst"):
                self.read(part["Stmts"], place)

    def read_callexpr(self, found: Node, place: str) -> None:
        words, assigned = words_of(found), found.get("Assigns") or []
        if not found.get("Args"):
            self.read_assignments(assigned, place)
            return
        self.read_lost(assigned, "an assignment before a command")
        self.read_lost(found["Args"], "an argument")
        if (place == CONDITION and words[0] in self.made) or words[0] in ("command", "type"):
            return
        if place and (self.asking.intersection(words) or may_be_any(found["Args"][0])):
            self.losses.append(Loss(found["Args"][0]["Pos"]["Line"], " ".join(filter(None, words)), place))

    def read_assignments(self, assigned: list[Node], place: str) -> None:
        """The status is that of the last substitution."""
        *lost, last = [*substitutions(assigned)] or [{}]
        for one in lost:
            self.read(one["Stmts"], "an assignment that another one follows")
        self.read(last.get("Stmts"), place)

    def read_declclause(self, found: Node, _place: str) -> None:
        self.read_lost(found["Args"], "local, declare or readonly")

    def read_testclause(self, found: Node, _place: str) -> None:
        self.read_lost(found["X"], "[[ ]]")

    def read_arithmcmd(self, found: Node, _place: str) -> None:
        self.read_lost(found["X"], "(( ))")

    def read_forclause(self, found: Node, place: str) -> None:
        self.read_lost(found["Loop"], "the words of a loop")
        self.read(found["Do"], place)

    def read_caseclause(self, found: Node, place: str) -> None:
        self.read_lost(found["Word"], "the word of a case")
        self.read([item.get("Stmts") for item in found["Items"]], place)

    def read_ifclause(self, found: Node, place: str) -> None:
        self.read(found.get("Cond"), place or CONDITION)
        self.read([found.get("Then"), found.get("Else")], place)

    def read_whileclause(self, found: Node, place: str) -> None:
        self.read(found["Cond"], place or CONDITION)
        self.read(found["Do"], place)

    def read_binarycmd(self, found: Node, place: str) -> None:
        self.read(found["X"], place if found["Op"] == pipe() else place or CONDITION)
        self.read(found["Y"], place)

    def read_funcdecl(self, found: Node, _place: str) -> None:
        if found["Name"]["Value"] not in MADE_FOR_CONDITIONS:
            self.read(found["Body"])


def substitutions(found: Any) -> Iterator[Node]:
    """Those that are not inside of another one."""
    if isinstance(found, dict) and found.get("Type") in ("CmdSubst", "ProcSubst"):
        yield found
    elif isinstance(found, dict):
        yield from substitutions(list(found.values()))
    elif isinstance(found, list):
        for part in found:
            yield from substitutions(part)


def losses(scripts: dict[str, str]) -> dict[str, list[Loss]]:
    """Of each script, those of a set that is run together."""
    trees = {name: tree(text) for name, text in scripts.items()}
    asking_aws = asking([*trees.values()])
    made = made_for_conditions([*trees.values()], asking_aws)
    found = {}
    for name, script in trees.items():
        reader = Reader(asking_aws, made)
        reader.read(script)
        found[name] = reader.losses
    return found
