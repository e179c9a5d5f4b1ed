"""The faults that somebody could have written in a script, by the syntax tree of shfmt, and in its jq by words."""

import json
import re
import subprocess
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from edit import Edit, names_instead, number_instead, words

Node = dict[str, Any]

OPERATORS = {"==": ("!=",), "!=": ("==",), "<": ("<=", ">"), ">": (">=", "<"), "<=": ("<", ">="), ">=": (">", "<=")}
OPERATORS |= {"&&": ("||",), "||": ("&&",), "-n": ("-z",), "-z": ("-n",), "+": ("-",), "-": ("+",), "*": ("/",)}
OPERATORS |= {"/": ("*",), "=~": ("==",)}

# Commands whose absence says nothing, or whose order nothing goes by.
QUIET = ("printf", "echo", "say", "set", "shopt", "source", "shift", "true", "return", "exit", "read", ":", "progress")

HERE_DOCUMENT = re.compile(rb"(?<!<)<<-?['\"\w]")

# In jq: a pattern, what is written instead, the kind.
OF_JQ = (
    (r"(?<= )==(?= )", "!=", "comparison"),
    (r"(?<= )!=(?= )", "==", "comparison"),
    (r"(?<= )>=(?= )", ">", "comparison"),
    (r"(?<= )<=(?= )", "<", "comparison"),
    (r"(?<= )<(?= )", "<=", "comparison"),
    (r"(?<= )>(?= )", ">=", "comparison"),
    (r"\band\b", "or", "comparison"),
    (r"\bor\b", "and", "comparison"),
    (r"\bany\b", "all", "comparison"),
    (r"\ball\b", "any", "comparison"),
    (r"\bmin", "max", "comparison"),
    (r"\bmax", "min", "comparison"),
    (r" \| not\b", "", "comparison"),
    (r"\btrue\b", "false", "constant"),
    (r"\bfalse\b", "true", "constant"),
    (r"(?<= )/(?= )", "*", "unit"),
    (r" [*/] [\d.]+", "", "unit"),
    (r"\[0\]", "[-1]", "page"),
    (r"\[-1\]", "[0]", "page"),
    (r"\bfirst\b", "last", "page"),
    (r"\blast\b", "first", "page"),
    (r"\[\]", "[0]", "page"),
    (r" // (\d+|\"[^\"]*\"|\[\]|\{\}|empty|null)", "", "default"),
    (r"(?<=[\w\]])\?", "", "default"),
    (r"\bselect\((?:[^()]|\([^()]*\))*\)", ".", "missing case"),
    (r" \| (unique|sort|tonumber|fromjson|ascii_downcase)\b", "", "missing case"),
    (r"\belif .*? then .*?(?= elif| else)", "", "missing case"),
    (r"(?<=[{,]) ?\"?\w+\"?: [^,{}]+(,|(?=\}))", "", "missing case"),
)


class Script:
    def __init__(self, source: bytes) -> None:
        self.source = source
        self.known = words(source.decode())
        done = subprocess.run(["shfmt", "--to-json"], input=source, capture_output=True, check=True)
        self.tree: Node = json.loads(done.stdout)

    def of(self, node: Node) -> bytes:
        return self.source[begin(node) : end(node)]

    def first_word(self, call: Node) -> str:
        return self.of(call["Args"][0]).decode() if call.get("Args") else ""


def begin(node: Node, name: str = "Pos") -> int:
    offset: int = node[name]["Offset"]
    return offset


def end(node: Node) -> int:
    return begin(node, "End")


def of_bash(source: bytes) -> Iterator[Edit]:
    script = Script(source)
    for node in walked(script.tree):
        yield from of_operators(script, node)
        yield from of_words(script, node)
        yield from of_commands(script, node)
        yield from of_cases(node)
        for statements in bodies(node):
            yield from of_body(script, statements)


def of_jq(source: bytes) -> Iterator[Edit]:
    yield from of_program(source, 0, len(source), words(source.decode()))


def walked(tree: Node) -> Iterator[Node]:
    left: list[Any] = [tree]
    while left:
        node = left.pop()
        if isinstance(node, dict):
            if "Offset" in node:
                continue
            yield node
            left += node.values()
        elif isinstance(node, list):
            left += node


def bodies(node: Node) -> Iterator[list[Node]]:
    is_file = node.get("Type") == "File"
    yield from (node[name] for name in ("Stmts", "Then", "Do") if node.get(name) and not is_file)


def kind_of(node: Node) -> str:
    return str(node.get("Type", ""))


def of_operators(script: Script, node: Node) -> Iterator[Edit]:
    if node.get("Negated"):
        at = begin(node)
        yield Edit("comparison", at, at + 2, b"")
    if kind_of(node) in ("BinaryCmd", "BinaryTest", "BinaryArithm", "UnaryTest"):
        at = begin(node, "OpPos")
        found = re.match(rb"[=!<>]=|=~|&&|\|\||-[nz]\b|[-+*/<>](?= )", script.source[at:])
        for new in OPERATORS.get(found[0].decode(), ()) if found else ():
            kind = "unit" if new in "*/" else "comparison"
            yield Edit(kind, at, at + len(found[0]), new.encode())  # type: ignore[index]
        if found and found[0] in (b"&&", b"||"):
            yield from of_junction(node, found[0])
    if kind_of(node) == "IfClause" or "ThenPos" in node:
        condition = node["Cond"][0]
        if len(node["Cond"]) == 1 and not condition.get("Negated") and kind_of(condition["Cmd"]) != "BinaryCmd":
            yield Edit("comparison", begin(condition), begin(condition), b"! ")


def of_junction(node: Node, operator: bytes) -> Iterator[Edit]:
    one, other = node["X"], node["Y"]
    if kind_of(node) == "BinaryCmd" and operator == b"||":
        yield Edit("swallowed error", begin(other), end(other), b"true")
        return
    yield Edit("missing case", begin(one), begin(other), b"")
    yield Edit("missing case", end(one), end(other), b"")


def of_words(script: Script, node: Node) -> Iterator[Edit]:
    if kind_of(node) == "SglQuoted":
        yield from of_program(script.source, begin(node, "Left") + 1, begin(node, "Right"), script.known)
    elif kind_of(node) == "Lit":
        yield from of_literal(script, node["Value"], begin(node, "ValuePos"))
    elif kind_of(node) == "ParamExp":
        yield from of_names(node["Param"]["Value"], begin(node["Param"], "ValuePos"), script.known)
        if word := node.get("Exp", {}).get("Word"):
            yield from of_expansion(script, begin(word), end(word))


def of_literal(script: Script, text: str, at: int) -> Iterator[Edit]:
    """Not the number of a file, as in >&2."""
    if script.source[at - 1 : at] == b"&" or text == "source":
        return
    if found := number_instead(text):
        yield Edit(found[0], at, at + len(text), ("0" if text == "1" else found[1]).encode())
    elif text in ("true", "false"):
        yield Edit("constant", at, at + len(text), b"false" if text == "true" else b"true")
    elif text.isascii():
        yield from of_names(text, at, script.known)


def of_expansion(script: Script, first: int, last: int) -> Iterator[Edit]:
    """Of ${x:-word}, and of ${x%word}, which takes more of x with %%."""
    before = script.source[first - 2 : first]
    if before.endswith(b"-"):
        yield Edit("default", first, last, b"")
    elif before in (b"##", b"%%"):
        yield Edit("page", first - 1, first, b"")
    elif before[-1:] in (b"#", b"%"):
        yield Edit("page", first, first, before[-1:])


def of_names(text: str, at: int, known: set[str]) -> Iterator[Edit]:
    for found in re.finditer(r"[A-Za-z_][\w-]*", text):
        for kind, name in names_instead(found[0], known):
            yield Edit(kind, at + found.start(), at + found.end(), name.encode())


def of_program(source: bytes, first: int, last: int, known: set[str]) -> Iterator[Edit]:
    """Of what stands between single quotes, most of which is jq."""
    text = source[first:last].decode()
    if not text.isascii():
        return
    comments = [found.span() for found in re.finditer(r"(?m)^ *#.*$", text)]
    for pattern, instead, kind in OF_JQ:
        for found in re.finditer(pattern, text):
            if not any(start <= found.start() < stop for start, stop in comments):
                yield Edit(kind, first + found.start(), first + found.end(), instead.encode())
    for found in re.finditer(r"(?<![\w.\"-])\d+(\.\d+)?(?![\w.\"-])", text):
        if other := number_instead(found[0]):
            yield Edit(other[0], first + found.start(), first + found.end(), other[1].encode())
    yield from of_names(text, first, known)


def of_commands(script: Script, node: Node) -> Iterator[Edit]:
    if kind_of(node) == "CallExpr" and len(node.get("Args", ())) > 1:
        arguments = node["Args"]
        for at, one in enumerate(arguments[1:], 1):
            is_option = script.of(one).startswith(b"--") and at + 1 < len(arguments)
            has_value = is_option and not script.of(arguments[at + 1]).startswith(b"-")
            last = arguments[at + 1] if has_value else one
            yield Edit("missing case", end(arguments[at - 1]), end(last), b"")
        for one, other in pairwise(arguments[1:]):
            if script.of(one)[:2] == script.of(other)[:2] == b'"$':
                between = script.source[end(one) : begin(other)]
                yield Edit("order", begin(one), end(other), script.of(other) + between + script.of(one))
    elif "Elems" in node:
        for before, one in pairwise([None, *node["Elems"]]):
            first = end(before) if before else begin(one)
            yield Edit("missing case", first, end(one), b"")


def of_cases(node: Node) -> Iterator[Edit]:
    if kind_of(node) == "CaseClause":
        for item in node["Items"]:
            yield Edit("missing case", begin(item), begin(item, "OpPos") + 2, b"")
    elif kind_of(node) in ("ForClause", "WhileClause"):
        yield Edit("page", begin(node, "DonePos"), begin(node, "DonePos"), b"break; ")
    elif kind_of(node) == "IfClause" and node.get("Else"):
        yield Edit("missing case", begin(node["Else"]), begin(node, "FiPos"), b"")


def of_body(script: Script, statements: list[Node]) -> Iterator[Edit]:
    plain = [one for one in statements if "Cmd" in one and not HERE_DOCUMENT.search(script.of(one))]
    for one in plain:
        command = one["Cmd"]
        word = script.first_word(command)
        is_name = kind_of(command) in ("DeclClause", "FuncDecl")
        is_given = kind_of(command) == "CallExpr" and not word and "Append" not in command["Assigns"][0]
        if not is_name and not is_given:
            yield Edit("missing case", begin(one), end(one), b":")
        asks = b"$(" in script.of(one) if is_given else kind_of(command) == "CallExpr" and word not in QUIET
        if asks and not one.get("Semicolon"):
            yield Edit("swallowed error", end(one), end(one), b" || true")
    for one, other in pairwise(plain):
        if is_another_order(script, one, other):
            between = script.source[end(one) : begin(other)]
            yield Edit("order", begin(one), end(other), script.of(other) + between + script.of(one))


def is_another_order(script: Script, one: Node, other: Node) -> bool:
    """Whether both orders run, and may differ."""
    if any(kind_of(each["Cmd"]) != "CallExpr" or each.get("Semicolon") for each in (one, other)):
        return False
    given = [each["Name"]["Value"].encode() for each in one["Cmd"].get("Assigns", ())]
    if any(re.search(rb"\$\{?[#!]?%b\b" % name, script.of(other)) for name in given):
        return False
    return all(does_something(script, each) for each in (one, other))


def does_something(script: Script, statement: Node) -> bool:
    word = script.first_word(statement["Cmd"])
    return word not in QUIET if word else b"$(" in script.of(statement)


def is_other_bash(changed: bytes, source: bytes) -> bool:
    return changed != source and subprocess.run(["bash", "-n"], input=changed, capture_output=True).returncode == 0


def is_other_jq(changed: bytes, source: bytes) -> bool:
    command = ["jq", "-n", f"{changed.decode()}\nnull"]
    return changed != source and subprocess.run(command, capture_output=True).returncode == 0
