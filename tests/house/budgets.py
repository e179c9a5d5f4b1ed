"""The budgets of the house: what the product and its tests may have of each thing. They only fall.

.venv/bin/python tests/house/budgets.py            prints each count beside its budget
.venv/bin/python tests/house/budgets.py --lower    writes the counts that are lower into budgets.json
"""

import ast
import functools
import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from itertools import groupby, pairwise
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = Path(__file__).with_suffix(".json")
ROOMS = ("mirror", "launch", "lib", "local", "tests")
ENTRIES = ("deploy.sh", "cleanup.sh", "sync.sh", "worker.py", "starter.py", "Dockerfile")
PROGRAMS = ("tests/run", "tests/fast", "tests/bench/run")
# What shows a planted fault is the text of the product.
QUOTES = ("tests/protocol/mutants.py",)
FUNCTION = re.compile(r"^([a-z_][a-z0-9_]*)\(\) [({]", re.MULTILINE)
GLOBAL = re.compile(
    r'^ *(?:(?:readonly|export|declare) (?:-\w+ )?)?([A-Z][A-Z0-9_]*)\+?=|"\$\{([A-Z_]+):=', re.MULTILINE
)

Counts = dict[str, int]
Texts = dict[str, str]


def files() -> Texts:
    """Path -> text of all that is counted, as git has it."""
    names = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True).split("\n")
    kinds = (".py", ".sh", ".jq", ".table")
    counted = [name for name in names if name in ENTRIES + PROGRAMS or (room(name) and name.endswith(kinds))]
    return {name: (ROOT / name).read_text() for name in counted if (ROOT / name).exists()}


def room(name: str) -> str:
    first = name.partition("/")[0]
    return "entries" if name in ENTRIES else first if first in ROOMS else ""


@functools.cache
def nodes_of(text: str) -> list[ast.AST]:
    """All of a file in Python, its module first."""
    return list(ast.walk(ast.parse(text)))


def lines_of_code(name: str, text: str) -> int:
    """Without blank lines, comments and docstrings."""
    quiet: set[int] = set()
    if name.endswith(".py"):
        kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        for node in nodes_of(text):
            if isinstance(node, kinds) and ast.get_docstring(node) is not None:
                quiet |= {*range(node.body[0].lineno, (node.body[0].end_lineno or 0) + 1)}
    lines = enumerate(map(str.strip, text.split("\n")), 1)
    return sum(bool(line) and not line.startswith("#") and number not in quiet for number, line in lines)


def python_functions(text: str) -> list[str]:
    return [node.name for node in nodes_of(text) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def sizes(texts: Texts) -> Counts:
    found: Counter[str] = Counter()
    for name, text in texts.items():
        found[f"{room(name)}: files"] += 1
        found[f"{room(name)}: lines of code"] += lines_of_code(name, text)
        if room(name) != "tests":
            functions = python_functions(text) if name.endswith(".py") else FUNCTION.findall(text)
            found[f"{room(name)}: functions"] += len(functions)
    return dict(found)


# --- Bash -----------------------------------------------------------------------------------------------------------


def scripts(texts: Texts) -> Texts:
    """The product's Bash, without its comments."""
    bash = {name: text for name, text in texts.items() if name.endswith(".sh") and room(name) != "tests"}
    return {name: re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE) for name, text in bash.items()}


def inner_functions(bash: Texts) -> set[str]:
    """Those of more than one word that only their own file names."""
    users: Counter[str] = Counter()
    for text in bash.values():
        users.update(set(re.findall(r"[a-z_][a-z0-9_]*", text)))
    return {name for text in bash.values() for name in FUNCTION.findall(text) if "_" in name and users[name] == 1}


def of_bash(texts: Texts) -> Counts:
    bash = scripts(texts)
    words = Counter(word for text in bash.values() for word in re.findall(r"[a-z_][a-z0-9_]*", text))
    functions = [name for text in bash.values() for name in FUNCTION.findall(text)]
    return {
        "Bash: functions": len(functions),
        "Bash: functions that are called once": sum(words[name] == 2 for name in functions),
        "Bash: globals": len({a or b for text in bash.values() for a, b in GLOBAL.findall(text)}),
    }


# --- what tests know of the inside ------------------------------------------------------------------------------------


def stubs(texts: Texts) -> Iterator[str]:
    """A test gives a Bash function of the product another body."""
    known = {name for text in scripts(texts).values() for name in FUNCTION.findall(text)}
    for name, _ in tests(texts):
        found = re.findall(r"(?<![\w./-])([a-z_][a-z0-9_]*)\(\) ?[{(]", texts[name])
        yield from (f"{name}: {function}" for function in found if function in known)


def inner_names(texts: Texts) -> Iterator[str]:
    """A string of a test names a function of a script that is not for others."""
    inner = inner_functions(scripts(texts))
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


def inner_of_python(texts: dict[str, str]) -> dict[str, set[str]]:
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


# --- jumps ------------------------------------------------------------------------------------------------------------


def of_one_object() -> Counts:
    """The way of one small object through a worker."""
    done = subprocess.run(
        [sys.executable, ROOT / "tests/worker/path.py"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    functions, _, _, jumps = map(
        int, re.findall(r"(\d+) (?:functions|files|calls|jumps)", done.stdout.splitlines()[-1])
    )
    return {"one object: functions": functions, "one object: jumps between files": jumps}


def of_one_deployment() -> Counts:
    """A first deployment on the account on paper. A jump: two traced lines of one process are of two files."""
    sys.path[:0] = [str(ROOT), str(ROOT / "tests/scripts")]
    from documents import sourced_scripts

    with tempfile.TemporaryDirectory() as folder, sourced_scripts(Path(folder), "deploy.sh") as ready:
        trace = Path(folder) / "trace"
        ready.run(f"exec {{BASH_XTRACEFD}}>>{trace}; PS4='+ $BASHPID ${{BASH_SOURCE[0]-}} '; set -x; deploy_all")
        found = re.findall(rf"^\++ (\d+) {ROOT}/(\S+) (\w*)", trace.read_text(), re.MULTILINE)
    ours = sorted(found, key=lambda line: int(line[0]))  # stable: the lines of each process stay in order
    jumps = sum(
        one[1] != two[1] for _, lines in groupby(ours, key=lambda line: line[0]) for one, two in pairwise(lines)
    )
    programs = sum(word in ("jq", "python3") for _, _, word in found)
    return {"one deployment: jumps between files": jumps, "one deployment: jq and python3": programs}


# --- the table --------------------------------------------------------------------------------------------------------


def counts() -> Counts:
    texts = files()
    known = {
        "tests: Bash functions of ours with another body": len(list(stubs(texts))),
        "tests: inner Bash functions that they name": len(list(inner_names(texts))),
        "tests: inner Python functions that they name": len(set(inner_imports(texts))),
        "tests: attributes of ours that they set": len(list(patches(texts))),
    }
    return sizes(texts) | of_bash(texts) | known


def budgets() -> Counts:
    found: Counts = json.loads(TABLE.read_text())
    return found


def main() -> None:
    found, allowed = counts() | of_one_object() | of_one_deployment(), budgets() if TABLE.exists() else {}
    for name in sorted(found):
        print(f"{found[name]:6} of {allowed.get(name, 0):6}  {name}")
    if sys.argv[1:] == ["--lower"]:
        lower = {name: min(count, allowed.get(name, count)) for name, count in found.items()}
        TABLE.write_text(json.dumps(dict(sorted(lower.items())), indent=2) + "\n")


if __name__ == "__main__":
    main()
