"""What tests know of the inside of the product: nothing, as tests/house/test_house.py checks."""

import ast
import re
import sys
from collections import Counter
from collections.abc import Iterator

from budgets import FUNCTION, Texts, nodes_of, room, without_comments

# What shows a planted fault is the text of the product.
QUOTES = ("tests/protocol/mutants.py",)


def scripts(texts: Texts) -> Texts:
    """The product's Bash, without its comments."""
    bash = {name: text for name, text in texts.items() if name.endswith(".sh") and room(name) != "tests"}
    return {name: without_comments(text) for name, text in bash.items()}


def inner_functions(texts: Texts) -> set[str]:
    """Those of more than one word that only their own file names, and that operate/ does not start."""
    bash = scripts(texts)
    users: Counter[str] = Counter()
    for text in bash.values():
        users.update(set(re.findall(r"[a-z_][a-z0-9_]*", text)))
    for name, text in texts.items():
        if name.startswith("operate/"):
            users.update(set(re.findall(r'output_of\(.*"([a-z_]+)"', text)))
    return {name for text in bash.values() for name in FUNCTION.findall(text) if "_" in name and users[name] == 1}


def stubs(texts: Texts) -> Iterator[str]:
    """A test gives a Bash function of the product another body."""
    known = {name for text in scripts(texts).values() for name in FUNCTION.findall(text)}
    for name, _ in tests(texts):
        found = re.findall(r"(?<![\w./-])([a-z_][a-z0-9_]*)\(\) ?[{(]", texts[name])
        yield from (f"{name}: {function}" for function in found if function in known)


def inner_names(texts: Texts) -> Iterator[str]:
    """A string of a test names a function of a script that is not for others."""
    inner = inner_functions(texts)
    for name, nodes in tests(texts):
        for node in nodes:
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                words = set(re.findall(r"(?<![\w./-])([a-z_][a-z0-9_]*)", node.value))
                yield from (f"{name}: {word}" for word in sorted(words & inner))


def patches(texts: Texts) -> Iterator[str]:
    """A test sets an attribute of something that is ours: what it imports from elsewhere is not counted."""
    for name, nodes in tests(texts):
        theirs = {
            alias.asname or alias.name.partition(".")[0]
            for node in nodes
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
            if (getattr(node, "module", None) or alias.name).partition(".")[0] in sys.stdlib_module_names
        }
        for node in nodes:
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "setattr":
                target = ast.unparse(node.args[0])
                if target.partition(".")[0] not in theirs:
                    yield f"{name}:{node.lineno}: {target}"


def inner_of_python(texts: Texts) -> dict[str, set[str]]:
    """Module -> its functions that no other file of the product names, and those whose names begin with _; but not what
    shares its name with an argument or an attribute."""
    product = {name: text for name, text in texts.items() if room(name) != "tests"}
    users: Counter[str] = Counter()
    for text in product.values():
        users.update(set(re.findall(r"[A-Za-z_]\w*", text)))
    found = {}
    for name, text in product.items():
        if not name.endswith(".py"):
            continue
        nodes, kinds = nodes_of(text), ast.FunctionDef | ast.AsyncFunctionDef
        own = {node.name for node in nodes[0].body if isinstance(node, kinds) and users[node.name] == 1}
        own |= {node.name for node in nodes if isinstance(node, kinds) and re.match("_[a-z]", node.name)}
        taken = {node.arg for node in nodes if isinstance(node, ast.arg | ast.keyword)}
        taken |= {node.attr for node in nodes if isinstance(node, ast.Attribute) and not node.attr.startswith("_")}
        found[name] = {one for one in own - taken if not one.startswith("__") and one != "main"}
    return found


def inner_imports(texts: Texts) -> Iterator[str]:
    """A test names a function of a module that is not for others: "TEST: FILE NAME"."""
    inner = inner_of_python(texts)
    for name, nodes in tests(texts):
        modules = {}
        for node in nodes:
            if isinstance(node, ast.ImportFrom):
                file = f"{(node.module or '').replace('.', '/')}.py"
                yield from (f"{name}: {file} {one.name}" for one in node.names if one.name in inner.get(file, ()))
                modules |= {one.asname or one.name: f"{file[:-3]}/{one.name}.py" for one in node.names}
        for node in nodes:
            if isinstance(node, ast.Attribute):
                owner = ast.unparse(node.value)
                file = modules.get(owner, f"{owner.replace('.', '/')}.py")
                if node.attr in inner.get(file, ()):
                    yield f"{name}: {file} {node.attr}"


def tests(texts: Texts) -> Iterator[tuple[str, list[ast.AST]]]:
    """Those in Python, with all nodes of each."""
    names = (name for name in texts if room(name) == "tests" and name.endswith(".py") and name not in QUOTES)
    return ((name, nodes_of(texts[name])) for name in names)
