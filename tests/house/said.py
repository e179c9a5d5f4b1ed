"""What the product says when it refuses something, warns, or leaves something as it is, and what of it no test names.

A text is what is given to one of the functions below, a sentence that Bash prints or that a program of jq has, or one
that a function in Python yields, without the values that are put into it. A test names it if one of its strings has
three words in a row that no other text of the product has.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

import budgets
import lost_status

# Functions that say a text, or keep it to be said later.
IN_BASH = re.compile("die|problem|usage|need_yes|leave|note|say|[a-z]+_stays|finish(_removed)?|remove")
PRINTED = {"printf", "echo"}  # a sentence, or something for another program
IN_PYTHON = {"Failure", "wrong_usage", "need_yes", "say"}
IN_PYTHON |= {"Refused", "Unfinished", "ResponseParserError"}  # of a worker: why a key failed, or a run was refused
PYTHON = ("operate/", "launch/", "starter.py", "mirror/")

VALUE = "\0"  # in a text, where a value is put
WORD = re.compile(r"[A-Za-z0-9_']+")
FEWEST = 3  # words of a sentence
FEWEST_OF_LINE = 5  # of one that is yielded or printed, which may be the name of a row
PROSE = re.compile(r"(?<!\S)[A-Za-z']+[,:;]?( [A-Za-z']+[,:;]?){2}(?!\S)")  # what expressions and documents do not have
FORMAT = re.compile(r"%[-0-9.]*[a-z]|\\n")
# What plants faults repeats the product.
TESTS = ("tests/scripts/", "tests/chain/", "tests/worker/", "tests/protocol/test_", "tests/docs/test_estimate.py")

Words = tuple[str, ...]


class Said(NamedTuple):
    place: str
    text: str


def runs(text: str) -> list[Words]:
    """The words between two values."""
    return [tuple(WORD.findall(part)) for part in text.split(VALUE)]


def triples(text: str) -> set[Words]:
    """All that are three words in a row."""
    return {run[start : start + FEWEST] for run in runs(text) for start in range(len(run) - FEWEST + 1)}


def is_sentence(text: str) -> bool:
    return sum(map(len, runs(text))) >= FEWEST_OF_LINE and bool(PROSE.search(text))


# --- the product ------------------------------------------------------------------------------------------------------


def in_bash(name: str, text: str) -> Iterator[Said]:
    for node in lost_status.nodes(lost_status.tree(text)):
        words = [plain(word) for word in node.get("Args") or []]
        if words and IN_BASH.fullmatch(words[0]):
            yield Said(f"{name}:{node['Pos']['Line']}", " ".join(words[1:]))
        elif words and words[0] in PRINTED:
            printed = FORMAT.sub(VALUE, " ".join(words[1:]))
            if is_sentence(printed):
                yield Said(f"{name}:{node['Pos']['Line']}", printed)
        # A row of a table "what AWS says|what that means".
        elif "Elems" in node:
            for element in node["Elems"]:
                row = plain(element["Value"])
                if "|" in row:
                    yield Said(f"{name}:{element['Pos']['Line']}", row.rpartition("|")[2])
        elif node.get("Type") == "SglQuoted":
            yield from in_jq(f"{name}:{node['Pos']['Line']}", node.get("Value", ""))
        elif "Hdoc" in node:
            yield from in_jq(f"{name}:{node['Pos']['Line']}", plain(node["Hdoc"]))


def plain(word: Any) -> str:
    """A word of Bash as its command gets it."""
    found = ""
    for part in word.get("Parts") or []:
        if part["Type"] == "DblQuoted":
            found += plain(part)
        elif part["Type"] == "SglQuoted":
            found += part.get("Value", "")
        elif part["Type"] == "Lit":
            found += re.sub(r"\\\n?", "", part["Value"])
        else:
            found += VALUE
    return found


def in_jq(place: str, program: str) -> Iterator[Said]:
    """The sentences of what may be a program. What `+` joins is one; a string within a value is another."""
    text, outer = "", []  # the string that is read, and those around it with the brackets that are open in their value
    is_text = False
    for sign in re.findall(r'\\[(]|\\.|"\s*\+\s*"|.', program, re.DOTALL):
        if is_text and sign == "\\(":
            outer.append([text + VALUE, 0])
            is_text = False
        elif is_text and sign == '"':
            is_text = False
            if is_sentence(text):
                yield Said(place, text)
        elif is_text:
            text += sign if len(sign) == 1 else " "
        elif sign == '"':
            text, is_text = "", True
        elif outer and sign == ")" and outer[-1][1] == 0:
            text, is_text = outer.pop()[0], True
        elif outer and sign in "()":
            outer[-1][1] += 1 if sign == "(" else -1


def in_python(name: str, text: str) -> Iterator[Said]:
    for node in budgets.nodes_of(text):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in IN_PYTHON:
            yield from (Said(f"{name}:{node.lineno}", found) for part in node.args for found in strings(part))
        elif isinstance(node, ast.Yield) and isinstance(node.value, ast.Constant | ast.JoinedStr):
            lines = (found for found in strings(node.value) if sum(map(len, runs(found))) >= FEWEST_OF_LINE)
            yield from (Said(f"{name}:{node.lineno}", found) for found in lines)


def strings(node: ast.AST) -> Iterator[str]:
    """Each string in an expression, with the values that are put into it left out."""
    if isinstance(node, ast.JoinedStr):
        parts = (part.value if isinstance(part, ast.Constant) else VALUE for part in node.values)
        yield "".join(map(str, parts))
        within: Iterator[ast.AST] = (part for part in node.values if isinstance(part, ast.FormattedValue))
    elif isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
        return
    else:
        within = ast.iter_child_nodes(node)
    for part in within:
        yield from strings(part)


def all_said(texts: budgets.Texts) -> Iterator[Said]:
    """Sentences: what is shorter than that is only put around a value."""
    for name, text in texts.items():
        found: Iterator[Said] = iter(())
        if name.endswith((".sh", ".jq")) and budgets.room(name) != "tests":
            found = in_jq(name, text) if name.endswith(".jq") else in_bash(name, text)
        elif name.startswith(PYTHON) and name.endswith(".py"):
            found = in_python(name, text)
        # The name of the script or of the verb comes first.
        without = (one._replace(text=re.sub(r"^[a-z]+(\.sh)?: ", "", one.text)) for one in found)
        yield from (one for one in without if triples(one.text))


# --- the tests --------------------------------------------------------------------------------------------------------


def in_tests(texts: budgets.Texts) -> set[Words]:
    found: set[Words] = set()
    for name, text in texts.items():
        if name.startswith(TESTS) and name.endswith(".py"):
            quiet = {id(one.value) for one in budgets.docstrings(text) if isinstance(one, ast.Expr)}
            for node in budgets.nodes_of(text):
                if isinstance(node, ast.Constant | ast.JoinedStr) and id(node) not in quiet:
                    for one in strings(node):
                        found |= triples(one.replace("\\n", " ").replace("\\", ""))
    return found


def unnamed(found: list[Said], texts: budgets.Texts) -> list[Said]:
    """Of what the product says, what no test names."""
    known = in_tests(texts)
    owners: dict[Words, set[str]] = defaultdict(set)
    for one in found:
        for words in triples(one.text):
            owners[words].add(one.text)

    def is_named(one: Said) -> bool:
        own = {words for words in triples(one.text) if len(owners[words]) == 1}
        return bool((own or triples(one.text)) & known)

    return [one for one in found if not is_named(one)]
