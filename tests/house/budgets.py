"""Prints how large the product and its tests are, beside the last release. It is for reading: no test goes by it.

.venv/bin/python tests/house/budgets.py

A token is a word or a sign, also inside a string: `copy("a b")` has seven. Comments and docstrings are left out: those
of Python as its tokenizer finds them, elsewhere the lines that begin with #.
"""

import ast
import functools
import io
import re
import subprocess
import tarfile
import tokenize
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENTRIES = ("deploy.sh", "cleanup.sh", "sync.sh", "worker.py", "starter.py", "Dockerfile")
PROGRAMS = ("local/jq", "tests/run", "tests/fast", "tests/bench/run")
KINDS = (".py", ".sh", ".jq", ".table")
FUNCTION = re.compile(r"^([a-z_][a-z0-9_]*)\(\) [({]", re.MULTILINE)
JQ_FUNCTION = re.compile(r"^ *def ([a-z_][a-z0-9_]*)", re.MULTILINE)
TOKEN = re.compile(r"\w+|[^\w\s]")
COLUMNS = ("files", "lines", "functions", "tokens")

Texts = dict[str, str]
Sizes = dict[str, list[int]]  # folder -> its files, lines of code, functions, tokens


def room(name: str) -> str:
    """The folder at the top that a file of code belongs to, or "entries"; nothing if it is no code."""
    if name in ENTRIES:
        return "entries"
    is_code = name in PROGRAMS or name.endswith(KINDS)
    return name.partition("/")[0] if is_code and "/" in name and name[0] != "." else ""


def files() -> Texts:
    """Path -> text of all that is counted, as git has it."""
    names = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True).split("\n")
    return {name: (ROOT / name).read_text() for name in names if room(name) and (ROOT / name).exists()}


def is_python(name: str, text: str) -> bool:
    return name.endswith(".py") or text.startswith("#!/usr/bin/env python3")


@functools.cache
def nodes_of(text: str) -> list[ast.AST]:
    """All of a file in Python, its module first."""
    return list(ast.walk(ast.parse(text)))


def docstrings(text: str) -> list[ast.stmt]:
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    return [node.body[0] for node in nodes_of(text) if isinstance(node, kinds) and ast.get_docstring(node) is not None]


def lines_of_code(name: str, text: str) -> int:
    """Without blank lines, comments and docstrings."""
    quiet: set[int] = set()
    if is_python(name, text):
        for node in docstrings(text):
            quiet |= {*range(node.lineno, (node.end_lineno or 0) + 1)}

    lines = enumerate(map(str.strip, text.split("\n")), 1)
    return sum(bool(line) and not line.startswith("#") and number not in quiet for number, line in lines)


def tokens(name: str, text: str) -> int:
    if not is_python(name, text):
        return len(TOKEN.findall(without_comments(text)))

    quiet = {(node.lineno, node.col_offset) for node in docstrings(text)}
    found = tokenize.generate_tokens(io.StringIO(text).readline)
    code = [one.string for one in found if one.type != tokenize.COMMENT and one.start not in quiet]
    return sum(len(TOKEN.findall(one)) for one in code)


def without_comments(text: str) -> str:
    """Bash or jq without its lines of comments."""
    return re.sub(r"^\s*#.*$", "", text, flags=re.MULTILINE)


def functions(name: str, text: str) -> int:
    if is_python(name, text):
        return sum(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in nodes_of(text))
    return len((JQ_FUNCTION if name.endswith(".jq") else FUNCTION).findall(text))


def sizes(texts: Texts) -> Sizes:
    """By folder, and lib/ by its languages."""
    found: Sizes = defaultdict(lambda: [0, 0, 0, 0])
    for name, text in texts.items():
        part = f"lib (*{Path(name).suffix})" if room(name) == "lib" else room(name)
        counts = (1, lines_of_code(name, text), functions(name, text), tokens(name, text))
        found[part] = [a + b for a, b in zip(found[part], counts, strict=True)]
    return found


# --- the last release -------------------------------------------------------------------------------------------------


def git(*words: str) -> bytes:
    return subprocess.check_output(["git", *words], cwd=ROOT)


def last_release() -> tuple[str, str]:
    """Its version, and its commit as the workflow that publishes it has it: the last one before a "-dev"."""
    commit = "HEAD"
    for change in git("rev-list", "HEAD", "--", "mirror/version.py").decode().split():
        version = re.search(r'"(\d[\w.-]*)"', git("show", f"{change}:mirror/version.py").decode())
        if version and not version[1].endswith("-dev"):
            return version[1], commit
        commit = f"{change}^"
    raise SystemExit("git's history has no release: git fetch --unshallow")


def files_at(commit: str) -> Texts:
    with tarfile.open(fileobj=io.BytesIO(git("archive", commit))) as tree:
        texts = {}
        for member in tree:
            if room(member.name) and (file := tree.extractfile(member)):
                texts[member.name] = file.read().decode()
        return texts


def row(part: str, counts: list[int]) -> str:
    density = counts[3] / counts[1] if counts[1] else 0
    return f"{part:14}" + "".join(f"{count:10,}" for count in counts) + f"{density:10.1f}"


def main() -> None:
    version, commit = last_release()
    for title, texts in ((version, files_at(commit)), ("now", files())):
        print(f"{title:14}" + "".join(f"{name:>10}" for name in (*COLUMNS, "a line")))
        for part, counts in sorted(sizes(texts).items()):
            print(row(part, counts))
        print()


if __name__ == "__main__":
    main()
