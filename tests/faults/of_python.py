"""The faults that somebody could have written in a file of Python, by its syntax."""

import ast
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from edit import Edit, names_instead, number_instead, words

# An operator, and what is written instead of it.
OPERATORS = {
    ast.Eq: ("==", "!="),
    ast.NotEq: ("!=", "=="),
    ast.Lt: ("<", "<=", ">"),
    ast.LtE: ("<=", "<", ">="),
    ast.Gt: (">", ">=", "<"),
    ast.GtE: (">=", ">", "<="),
    ast.In: ("in", "not in"),
    ast.NotIn: ("not in", "in"),
    ast.Is: ("is", "is not"),
    ast.IsNot: ("is not", "is"),
    ast.And: ("and", "or"),
    ast.Or: ("or", "and"),
    ast.Add: ("+", "-"),
    ast.Sub: ("-", "+"),
    ast.Mult: ("*", "/"),
    ast.Div: ("/", "*"),
    ast.FloorDiv: ("//", "/"),
}
FUNCTIONS = {"min": "max", "max": "min", "any": "all", "all": "any"}
WITH_DEFAULT = {"get": 2, "pop": 2, "getattr": 3, "next": 2}  # a call that has a default with this many arguments
SIMPLE = ast.Expr | ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Delete
ENDS = ast.Return | ast.Raise | ast.Continue | ast.Break

# Calls that hardly fail: nothing is swallowed with them.
SAFE = {
    "append",
    "add",
    "extend",
    "update",
    "print",
    "discard",
    "setdefault",
    "clear",
    "sort",
    "info",
    "warning",
    "error",
}


class Text:
    """The bytes of a file, by the places of its syntax tree."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        self.lines = [0]
        for line in source.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))

    def begin(self, node: ast.AST) -> int:
        return self.lines[node.lineno - 1] + node.col_offset

    def end(self, node: ast.AST) -> int:
        return self.lines[node.end_lineno - 1] + node.end_col_offset

    def of(self, node: ast.AST) -> bytes:
        return self.source[self.begin(node) : self.end(node)]

    def edit(self, kind: str, node: ast.AST, instead: bytes | str) -> Edit:
        return Edit(kind, self.begin(node), self.end(node), as_bytes(instead))

    def operator(self, kind: str, left: ast.AST, right: ast.AST, old: str, new: str) -> Iterator[Edit]:
        """Of the operator between two operands."""
        begin, end = self.end(left), self.begin(right)
        between = re.sub(rf"(?<!\w){re.escape(old)}(?!\w)".encode(), new.encode(), self.source[begin:end], count=1)
        yield Edit(kind, begin, end, between)

    def without(self, kind: str, items: Sequence[ast.AST]) -> Iterator[Edit]:
        """Each of several items with signs between them, left out."""
        for at, item in enumerate(items):
            if len(items) > 1 and at + 1 < len(items):
                yield Edit(kind, self.begin(item), self.begin(items[at + 1]), b"")
            elif len(items) > 1:
                yield Edit(kind, self.end(items[at - 1]), self.end(item), b"")


def as_bytes(text: bytes | str) -> bytes:
    return text.encode() if isinstance(text, str) else text


def of_python(source: bytes) -> Iterator[Edit]:
    """A name becomes another one of the same function."""
    text = Text(source)
    for part in filter(None, map(as_part, ast.parse(source).body)):
        known = words(text.of(part).decode())
        names = names_of(part, ast.Store) | {one.arg for one in ast.walk(part) if isinstance(one, ast.arg)}
        for node in walked(part):
            yield from of_operators(text, node)
            yield from of_conditions(text, node)
            yield from of_names(text, node, names)
            yield from of_values(text, node, known)
            yield from of_defaults(text, node)
            yield from of_loops(text, node)
            yield from of_errors(text, node)
            yield from of_items(text, node)
            for body in bodies(node):
                yield from of_body(text, body)


def as_part(node: ast.stmt) -> ast.stmt | None:
    """What stands at the top of a file; without that it runs as a program, which every test would notice."""
    is_start = isinstance(node, ast.If) and "__name__" in ast.dump(node.test)
    return None if is_start or is_quiet(node) else node


def walked(node: ast.AST) -> Iterator[ast.AST]:
    """Without annotations, imports and texts that stand alone."""
    yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "type_params") or is_unpacked(node, value):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not is_quiet(child):
                yield from walked(child)


def is_unpacked(node: ast.AST, value: object) -> bool:
    """Whether these are values of as many names, none of which can be missing."""
    return isinstance(node, ast.Assign) and isinstance(value, ast.Tuple) and isinstance(node.targets[0], ast.Tuple)


def is_quiet(node: ast.AST) -> bool:
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return is_text or isinstance(node, ast.Import | ast.ImportFrom)


def bodies(node: ast.AST) -> Iterator[list[ast.stmt]]:
    if not isinstance(node, ast.Module | ast.ClassDef | ast.IfExp | ast.Lambda | ast.Expression):
        yield from (body for name in ("body", "orelse", "finalbody") if (body := getattr(node, name, None)))


def of_operators(text: Text, node: ast.AST) -> Iterator[Edit]:
    if isinstance(node, ast.Compare):
        operands = [node.left, *node.comparators]
        for operator, (left, right) in zip(node.ops, pairwise(operands), strict=True):
            old, *others = OPERATORS[type(operator)]
            for new in others:
                yield from text.operator("comparison", left, right, old, new)
    elif isinstance(node, ast.BoolOp):
        old, new = OPERATORS[type(node.op)]
        for left, right in pairwise(node.values):
            yield from text.operator("comparison", left, right, old, new)
        is_default = isinstance(node.op, ast.Or) and isinstance(node.values[-1], ast.Constant | ast.List | ast.Dict)
        yield from text.without("default" if is_default else "missing case", node.values)
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        old, new = OPERATORS[type(node.op)]
        is_unit = isinstance(node.op, ast.Mult | ast.Div | ast.FloorDiv)
        yield from text.operator("unit" if is_unit else "constant", node.left, node.right, old, new)
        if is_unit:
            yield Edit("unit", text.end(node.left), text.end(node.right), b"")


def of_conditions(text: Text, node: ast.AST) -> Iterator[Edit]:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield text.edit("comparison", node, text.of(node.operand))
    elif isinstance(node, ast.If | ast.IfExp | ast.While):
        if isinstance(node.test, ast.Name | ast.Attribute | ast.Call):
            yield text.edit("comparison", node.test, b"not " + text.of(node.test))
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
        yield text.edit("comparison", node.func, FUNCTIONS[node.func.id])


def of_names(text: Text, node: ast.AST, names: set[str]) -> Iterator[Edit]:
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        yield from (text.edit(kind, node, name) for kind, name in names_instead(node.id, names))


def of_values(text: Text, node: ast.AST, known: set[str]) -> Iterator[Edit]:
    if isinstance(node, ast.Constant):
        yield from of_constant(text, node, known)
    elif isinstance(node, ast.Attribute):
        for kind, name in names_instead(node.attr, known):
            yield Edit(kind, text.end(node) - len(node.attr), text.end(node), name.encode())
    elif isinstance(node, ast.keyword) and node.arg:
        for kind, name in names_instead(node.arg, known):
            yield Edit(kind, text.begin(node), text.begin(node) + len(node.arg), name.encode())
    elif isinstance(node, ast.Call):
        for one, other in pairwise(node.args):
            if isinstance(one, ast.Name) and isinstance(other, ast.Name):
                yield swapped(text, "order", one, other)
    elif isinstance(node, ast.Subscript):
        yield from of_place(text, node.slice)


def of_constant(text: Text, node: ast.Constant, known: set[str]) -> Iterator[Edit]:
    if isinstance(node.value, bool):
        yield text.edit("constant", node, str(not node.value))
    elif isinstance(node.value, int | float):
        found = number_instead(text.of(node).decode())
        if found:
            yield text.edit(found[0], node, found[1])
    elif isinstance(node.value, str) and text.of(node)[:1] in b"\"'":
        for kind, name in names_instead(node.value, known):
            yield text.edit(kind, node, f'"{name}"')


def of_place(text: Text, place: ast.expr) -> Iterator[Edit]:
    """Of what a page is cut to: [0], [1:], [:-1]."""
    if isinstance(place, ast.Slice):
        for bound in filter(None, (place.lower, place.upper)):
            if text.of(bound).lstrip(b"-").isdigit():
                yield text.edit("page", bound, str(int(text.of(bound)) + 1))
                yield text.edit("page", bound, b"")
    elif text.of(place) in (b"0", b"-1"):
        yield text.edit("page", place, b"-1" if text.of(place) == b"0" else b"0")


def swapped(text: Text, kind: str, one: ast.AST, other: ast.AST) -> Edit:
    between = text.source[text.end(one) : text.begin(other)]
    return Edit(kind, text.begin(one), text.end(other), text.of(other) + between + text.of(one))


def of_defaults(text: Text, node: ast.AST) -> Iterator[Edit]:
    if isinstance(node, ast.Call):
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if len(node.args) == WITH_DEFAULT.get(name):
            yield Edit("default", text.end(node.args[-2]), text.end(node.args[-1]), b"")
    elif isinstance(node, ast.IfExp):
        yield text.edit("default", node, text.of(node.body))
        yield text.edit("default", node, text.of(node.orelse))
    elif isinstance(node, ast.arguments):
        for default in filter(None, (*node.defaults, *node.kw_defaults)):
            if isinstance(default, ast.Constant) and isinstance(default.value, bool):
                yield text.edit("default", default, str(not default.value))


def of_loops(text: Text, node: ast.AST) -> Iterator[Edit]:
    """Only the first round, only the first one: of pages, that is all but the first forgotten."""
    if isinstance(node, ast.While | ast.For | ast.AsyncFor) and not isinstance(node.body[-1], ENDS):
        end = text.end(node.body[-1])
        yield Edit("page", end, end, b"\n" + b" " * node.body[-1].col_offset + b"break")
    elif isinstance(node, ast.comprehension) and not node.is_async:
        yield text.edit("page", node.iter, b"list(" + text.of(node.iter) + b")[:1]")
        yield from (text.edit("missing case", condition, b"True") for condition in node.ifs)


def of_errors(text: Text, node: ast.AST) -> Iterator[Edit]:
    if isinstance(node, ast.Raise):
        yield text.edit("swallowed error", node, b"pass")
    elif isinstance(node, ast.ExceptHandler) and node.type:
        yield text.edit("swallowed error", node.type, b"Exception")
        yield Edit("swallowed error", text.begin(node.body[0]), text.end(node.body[-1]), b"pass")
    elif isinstance(node, ast.Try):
        yield from (
            text.edit("missing case", handler, b"except ():\n" + b" " * handler.body[0].col_offset + b"pass")
            for handler in node.handlers
        )
    elif isinstance(node, ast.Expr | ast.Assign | ast.Return) and may_fail(node):
        yield text.edit("swallowed error", node, b'with __import__("contextlib").suppress(Exception): ' + text.of(node))


def may_fail(node: ast.stmt) -> bool:
    """Whether it waits for something, or is a call whose result nobody uses."""
    is_awaited = isinstance(node.value, ast.Await)
    if not is_awaited and not isinstance(node, ast.Expr):
        return False
    called = node.value.value if is_awaited else node.value
    if not isinstance(called, ast.Call):
        return False
    return (called.func.attr if isinstance(called.func, ast.Attribute) else getattr(called.func, "id", "")) not in SAFE


def of_items(text: Text, node: ast.AST) -> Iterator[Edit]:
    if isinstance(node, ast.List | ast.Set | ast.Tuple) and isinstance(getattr(node, "ctx", None), ast.Load | None):
        yield from text.without("missing case", node.elts)
    elif isinstance(node, ast.Call):
        named = [one for one in node.keywords if one.arg]
        for edit in text.without("missing case", sorted((*node.args, *node.keywords), key=text.begin)):
            if any(edit.begin <= text.begin(one) < edit.end for one in named):
                yield edit
    elif isinstance(node, ast.Dict) and None not in node.keys:
        yield from of_pairs(text, list(zip(node.keys, node.values, strict=True)))
    elif isinstance(node, ast.Match):
        yield from (
            Edit("missing case", text.begin(case.body[0]), text.end(case.body[-1]), b"pass") for case in node.cases
        )
    elif isinstance(node, ast.If) and node.orelse:
        yield Edit("missing case", text.end(node.body[-1]), text.end(node.orelse[-1]), b"")


def of_pairs(text: Text, pairs: list[tuple[ast.AST, ast.AST]]) -> Iterator[Edit]:
    for at, (key, value) in enumerate(pairs):
        if at + 1 < len(pairs):
            yield Edit("missing case", text.begin(key), text.begin(pairs[at + 1][0]), b"")
        elif at:
            yield Edit("missing case", text.end(pairs[at - 1][1]), text.end(value), b"")


def of_body(text: Text, body: list[ast.stmt]) -> Iterator[Edit]:
    for one in body:
        if can_be_missing(one):
            yield text.edit("missing case", one, b"pass")
    for one, other in pairwise(body):
        if isinstance(one, SIMPLE) and isinstance(other, SIMPLE) and is_another_order(one, other):
            yield swapped(text, "order", one, other)


def can_be_missing(node: ast.stmt) -> bool:
    """Not what only gives a name: without it, every test would fail."""
    if isinstance(node, ast.Assign):
        return not all(isinstance(target, ast.Name | ast.Tuple) for target in node.targets)
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return isinstance(node, ast.Expr | ast.AugAssign | ast.If | ast.For | ast.Return | ast.Continue) and not is_text


def is_another_order(one: ast.stmt, other: ast.stmt) -> bool:
    """Whether both orders run, and may differ."""
    given, used = names_of(one, ast.Store), names_of(other, ast.Load)
    if given & used - names_of(one, ast.Load):
        return False
    return does_something(one) and does_something(other)


def names_of(node: ast.AST, context: type) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name) and isinstance(one.ctx, context)}


def does_something(node: ast.AST) -> bool:
    return any(isinstance(one, ast.Call | ast.Await) or is_stored_in(one) for one in ast.walk(node))


def is_stored_in(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute | ast.Subscript) and isinstance(node.ctx, ast.Store)


def is_other_python(changed: bytes, source: bytes) -> bool:
    """Whether it can be read, and is other code than before."""
    try:
        compile(changed, "changed", "exec", dont_inherit=True)
    except SyntaxError:
        return False
    return without_texts(changed) != without_texts(source)


def without_texts(source: bytes) -> str:
    tree = ast.parse(source)
    for node in filter(is_quiet, ast.walk(tree)):
        if isinstance(node, ast.Expr):
            node.value.value = ""
    return ast.dump(tree)
