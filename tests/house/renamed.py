#!/usr/bin/env python3
"""Renames in a copy every function that is not for others, and runs tests there: they know none of these by its name.

    .venv/bin/python tests/house/renamed.py FOLDER                          the fast tests, in a copy that is made there
    .venv/bin/python tests/house/renamed.py FOLDER tests/scripts -n 2       whatever pytest is given

In Bash those are the functions that only their own file names, in Python those of a module that no other file of the
product names, and all whose names begin with _. What a name is put together of, such as "ask_$1", keeps its name, and
so does what a test imports: inner.py finds that. What quotes the product's text is left out.
"""

import io
import re
import shutil
import subprocess
import sys
import tokenize
from pathlib import Path

import budgets
import inner

LINKED = (".venv", ".venv-cli1", ".cache", ".git")
MADE = (".local*", ".hypothesis", "*_cache", "__pycache__")
QUOTING = ("tests/faults", "tests/protocol/test_mutants.py", "tests/house")
SUFFIX = "_renamed"


def inner_of_bash(texts: dict[str, str]) -> dict[str, set[str]]:
    """File -> its functions that no other file of the product names, and that are named as a whole somewhere."""
    bash = inner.scripts(texts)
    everything = "\n".join(bash.values())
    composed = tuple(re.findall(r"\b(\w+_)(?=[$\"])", everything))
    own_to_a_file, found = inner.inner_functions(texts), {}
    for name, text in bash.items():
        own = {one for one in budgets.FUNCTION.findall(text) if one in own_to_a_file and not one.startswith(composed)}
        found[name] = {one for one in own if len(re.findall(rf"\b{one}\b", text)) > 1}
    return found


def renamed_python(text: str, names: set[str]) -> str:
    """By tokens, so that words in texts and comments stay."""
    lines = text.splitlines(keepends=True)
    for token in reversed(list(tokenize.generate_tokens(io.StringIO(text).readline))):
        if token.type == tokenize.NAME and token.string in names:
            (row, start), (_, end) = token.start, token.end
            lines[row - 1] = lines[row - 1][:start] + token.string + SUFFIX + lines[row - 1][end:]
    return "".join(lines)


def renamed_bash(text: str, names: set[str]) -> str:
    if not names:
        return text
    return re.sub(rf"(?<![\w$./-])({'|'.join(sorted(names, key=len, reverse=True))})(?![\w=-])", rf"\1{SUFFIX}", text)


def inner_of_python(texts: dict[str, str]) -> dict[str, set[str]]:
    named = set(inner.inner_imports(texts))
    return {
        file: {name for name in names if not any(one.endswith(f" {file} {name}") for one in named)}
        for file, names in inner.inner_of_python(texts).items()
    }


def copy_renamed(folder: Path) -> int:
    """Make the copy; how many functions have another name in it."""
    project = folder / "project"
    shutil.copytree(budgets.ROOT, project, ignore=shutil.ignore_patterns(*LINKED, *MADE))
    for name in LINKED:
        (project / name).symlink_to((budgets.ROOT / name).resolve())
    texts = budgets.files()
    of_both = ((renamed_bash, inner_of_bash(texts)), (renamed_python, inner_of_python(texts)))
    for renamed, of_files in of_both:
        for name, names in of_files.items():
            (project / name).write_text(renamed(texts[name], names))
    return sum(len(names) for _, of_files in of_both for names in of_files.values())


def main(folder: str, *arguments: str) -> int:
    print(f"{copy_renamed(Path(folder))} functions have another name in {folder}/project", flush=True)
    left_out = [f"--deselect={name}" for name in QUOTING] + [f"--ignore={name}" for name in QUOTING]
    command = [sys.executable, "-m", "pytest", "-q", *(arguments or ("-m", "fast")), *left_out]
    return subprocess.run(command, cwd=Path(folder) / "project", check=False).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
