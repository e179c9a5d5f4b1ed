#!/usr/bin/env python3
"""Lists the texts of the product that tests of an earlier commit had in their strings, and those of a later one do not.

    .venv/bin/python tests/house/texts.py                since the last release
    .venv/bin/python tests/house/texts.py 718ac70 HEAD   between two commits

A text is what stands between two values, as in `f"{name} is not a number: set it to at least {least}"`: at least three
words. The product is that of the later commit, so what it does not say any more is not listed.
"""

import re
import sys
from collections.abc import Iterator

import budgets

FEWEST_WORDS = 3
BASH_STRING = re.compile(r"\"((?:[^\"\\]|\\.)*)\"|'([^']*)'", re.DOTALL)
# What is put into a text: of printf, of Bash, of jq; and the ends of lines.
VALUE = re.compile(r"%[-\w]*[sdf]|\$\{[^}]*\}|\$\w+|\$\([^)]*\)|\\\([^)]*\)|\\?\n|\\n|\\")


def strings(name: str, text: str) -> Iterator[str]:
    if budgets.is_python(name, text):
        yield from (node.value for node in budgets.nodes_of(text) if isinstance(getattr(node, "value", None), str))
    else:
        yield from ("".join(found) for found in BASH_STRING.findall(budgets.without_comments(text)))


def said(texts: budgets.Texts) -> dict[str, str]:
    """Text of the product -> its file."""
    product = {name: text for name, text in texts.items() if budgets.room(name) != "tests"}
    found = {}
    for name, text in product.items():
        for string in strings(name, text):
            for part in map(str.strip, VALUE.split(string)):
                if len(part.split()) >= FEWEST_WORDS:
                    found[part] = name
    return found


def in_tests(texts: budgets.Texts) -> str:
    tests = {name: text for name, text in texts.items() if budgets.room(name) == "tests"}
    return "\n".join(string for name, text in tests.items() for string in strings(name, text))


def lost(earlier: budgets.Texts, later: budgets.Texts) -> dict[str, str]:
    before, now = in_tests(earlier), in_tests(later)
    return {text: name for text, name in said(later).items() if text in before and text not in now}


def main(earlier: str = "", later: str = "") -> None:
    texts = budgets.files_at(later) if later else budgets.files()
    for text, name in sorted(lost(budgets.files_at(earlier or budgets.last_release()[1]), texts).items()):
        print(f"{name}: {text}")


if __name__ == "__main__":
    main(*sys.argv[1:])
