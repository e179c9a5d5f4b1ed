"""Draws rows for the sample: faults of Python by cosmic-ray, those of Bash and jq by a small table, deleted lines.

    python3.13 -m venv .cache/faults
    .cache/faults/bin/pip install --requirement tests/faults/requirements.txt
    .cache/faults/bin/python tests/faults/draw.py 60    # adds rows, until each folder has 60

Each possible fault has a place in one fixed order, by a hash of its text. So the order does not depend on what else is
in the code, and the first rows stay the first if there are to be more.
"""

import ast
import hashlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain, count, zip_longest
from typing import Any, NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast, is_number
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names
from sample import PROJECT, Row, first_difference, places, planted, rows, write

SEED = "s3-to-s3express-sync"

# What is drawn from, by folder: patterns of files.
FOLDERS = {
    **{
        f"mirror/{room}": (f"mirror/{room}/*.py",)
        for room in ("protocol", "queue", "readers", "options", "model", "aws")
    },
    "mirror": ("mirror/*.py", "worker.py"),
    "launch": ("launch/*.py", "starter.py"),
    "lib/resources": ("lib/resources/*",),
    "lib": ("lib/*.sh", "lib/*.jq", "lib/*.py"),
    "lib/verbs": ("lib/verbs/*",),
    "lib/verify": ("lib/verify/*.sh", "lib/verify/*.jq"),
    "local": ("local/*.py", "local/*.sh", "local/gaps/*.py"),
    "scripts": ("deploy.sh", "cleanup.sh", "sync.sh"),
}

# Replacements that somebody could have written; others of cosmic-ray, as << for +, fail wherever the line is run.
PLAUSIBLE = re.compile(
    r"core/(ReplaceComparisonOperator_(Eq_NotEq|NotEq_Eq|Lt_LtE|LtE_Lt|Gt_GtE|GtE_Gt|Lt_Gt|Gt_Lt|Is_IsNot|IsNot_Is)"
    r"|ReplaceBinaryOperator_(Add_Sub|Sub_Add|Mul_Div|Div_Mul|FloorDiv_Mul|BitOr_BitAnd|BitAnd_BitOr|Mod_FloorDiv)"
    r"|ReplaceUnaryOperator_Delete_(Not|USub)|AddNot|Replace(True|False|And|Or|Break|Continue)\w+"
    r"|NumberReplacer|RemoveDecorator|ZeroIterationForLoop)"
)

SMALL = ("0", "1", "2")  # numbers that are a step or a place; others are limits, of which one more is no fault

# Of Bash and jq: words that take each other's place, what is found and what it becomes, and what can be missing.
PAIRS = ("== !=", "<= <", ">= >", "&& ||", "and or", "first last", "min max", "any all", "true false", "-n -z", "+ -")
CHANGES = ((r"\[0\]", "[1]"), (r"\[-1\]", "[0]"), (r"\[1:\]", "[2:]"), (r"(?<=@):2\}", ":3}"), (r"(?<=\w) / ", " * "))
CHANGES += ((r"(?<=if )(?=[a-z_]+( \"[^;]*)?;)", "! "), (r"\bselect\((?:[^()]|\([^()]*\))*\)", "."))
MISSING = (r"(?<=\[\[ )! |(?<=if )! | \| not\b", r"\[:-1\]", r" // (\d+|\"[^\"]*\"|\[\]|\{\})(?=[ )\]|,}])")
MISSING += (r" \| (unique|sort|tonumber|fromjson|ascii_downcase)(?= \||\)|$|')",)
FAULTS = [*CHANGES, *((pattern, "") for pattern in MISSING)]
for one, other in map(str.split, PAIRS):
    FAULTS += [(rf"(?<![^\s(|]){re.escape(this)}(?![^\s()|;])", that) for this, that in ((one, other), (other, one))]

# Lines whose absence says nothing, or only that a name is not there.
NOTHING = re.compile(r"\s*(#.*|\"[^$]*\"\s*\\?|[\"')\]}({\\\[,;&|]*|fi|done|else|then|esac|do|pass|;;)\s*")
BASH_NAMES = re.compile(r"\s*((local|readonly|declare)\b|\w+=|[\w-]+\(\) |def |source )")
PYTHON_NAMES = re.compile(
    r"\s*(import |from |def |async def |class |@|r?\"\"\"|global |nonlocal |[\w, ]+(: [^=]+)? = |\w+: [^{(]+,?$)"
)


class Site(NamedTuple):
    """Where a fault can be: line and column from 0. `change` makes the faulty source of a source, or None."""

    file: str
    line: int
    column: int
    label: str
    change: Callable[[str], str | None]

    def order(self, source: str) -> str:
        """Its place among all, by what stands there and not by where that is."""
        lines = source.splitlines()
        nth = lines[: self.line].count(lines[self.line])
        what = (SEED, self.file, lines[self.line], nth, self.column, self.label)
        return hashlib.sha256(repr(what).encode()).hexdigest()


def of_python(file: str, source: str) -> Iterator[Site]:
    for name in filter(PLAUSIBLE.fullmatch, operator_names()):
        operator, occurrences = get_operator(name)(), count()
        for node in ast_nodes(get_ast(source)):
            for index, ((line, column), _) in enumerate(operator.mutation_positions(node)):
                change = partial(mutate_code, operator=operator, occurrence=next(occurrences))
                if not is_annotation(node) and not (is_number(node) and node.value not in SMALL):
                    yield Site(file, line - 1, column, f"{name} {index}", change)


def is_annotation(node: Any) -> bool:
    while node.parent:
        if node.type in ("tfpdef", "annassign") or (node.parent.type == "funcdef" and node.get_previous_leaf() == "->"):
            return True
        node = node.parent
    return False


def of_text(file: str, source: str) -> Iterator[Site]:
    """Changed words of Bash and jq."""
    start = 0
    for number, line in enumerate(source.splitlines(keepends=True)):
        for pattern, replacement in () if line.lstrip().startswith("#") else FAULTS:
            for found in re.finditer(pattern, line):
                span = (start + found.start(), start + found.end())
                yield Site(file, number, found.start(), replacement, partial(replaced, span, replacement))
        start += len(line)


def replaced(span: tuple[int, int], by: str, source: str) -> str:
    return source[: span[0]] + by + source[span[1] :]


def of_lines(file: str, source: str) -> Iterator[Site]:
    """Lines that can be missing; in Python, `pass` instead if nothing else is in their block."""
    for number, line in enumerate(source.splitlines()):
        if not NOTHING.fullmatch(line) and not (PYTHON_NAMES if file.endswith(".py") else BASH_NAMES).match(line):
            yield Site(file, number, 0, "without", partial(without, number, file))


def without(number: int, file: str, source: str) -> str:
    lines = source.splitlines(keepends=True)
    indent = lines[number][: -len(lines[number].lstrip())]
    missing = "".join([*lines[:number], *lines[number + 1 :]])
    if not file.endswith(".py") or is_readable(file, missing, source):
        return missing
    return "".join([*lines[:number], f"{indent}pass\n", *lines[number + 1 :]])


def as_row(name: str, site: Site, source: str) -> Row | None:
    """None if the fault cannot be read, or changes nothing."""
    changed = site.change(source)
    if changed is None or changed == source or not is_readable(site.file, changed, source):
        return None
    old, new = source.splitlines(), changed.splitlines()
    same = first_difference(old, new)
    after = first_difference(old[same:][::-1], new[same:][::-1])
    text, fault = ("\n".join(lines[same : len(lines) - after]) for lines in (old, new))
    found = places(text, source)
    at = sum(len(line) + 1 for line in old[:same])
    if not text or at not in found:
        return None
    row = Row(name, site.file, text, fault, found.index(at) + 1, len(found))
    return row if planted(row, source) == changed else None


def is_readable(file: str, changed: str, source: str) -> bool:
    """Of Python, whether it is also other code than before, docstrings aside."""
    if file.endswith(".py"):
        try:
            return ast.dump(without_texts(changed)) != ast.dump(without_texts(source))
        except SyntaxError:
            return False
    command, given = (["jq", "-n", f"{changed}\nnull"], "") if file.endswith(".jq") else (["bash", "-n"], changed)
    return not subprocess.run(command, input=given, text=True, capture_output=True).returncode


def without_texts(source: str) -> ast.Module:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value.value = ""
    return tree


def sites(folder: str) -> Iterator[Site]:
    """In their order: a changed word, a missing line, a changed word ..."""
    words, lines = [], []
    for path in sorted({path for pattern in FOLDERS[folder] for path in PROJECT.glob(pattern)}):
        file, source = str(path.relative_to(PROJECT)), path.read_text()
        found = of_python if path.suffix == ".py" else of_text
        words += [(site.order(source), site) for site in found(file, source)]
        lines += [(site.order(source), site) for site in of_lines(file, source)]
    ordered = (sorted(each, key=lambda pair: pair[0]) for each in (words, lines))
    for _, site in filter(None, chain(*zip_longest(*ordered))):
        yield site


def drawn(folder: str, number: int, known: list[Row]) -> list[Row]:
    """More rows of the folder, up to this number: at most one on a line."""
    found = [row for row in known if row.folder == folder]
    lines = {(row.file, row.text, row.nth) for row in found}
    for site in sites(folder):
        if len(found) >= number:
            break
        row = as_row(f"{folder} {len(found) + 1}", site, (PROJECT / site.file).read_text())
        if row and (row.file, row.text, row.nth) not in lines:
            found.append(row)
            lines.add((row.file, row.text, row.nth))
    return found


if __name__ == "__main__":
    before = rows()
    write(row for folder in FOLDERS for row in drawn(folder, int(sys.argv[1]), before))
