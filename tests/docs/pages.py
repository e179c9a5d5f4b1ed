"""The pages for users, README.md and docs/*.md in English and Chinese, as their tests read them."""

from __future__ import annotations

import os.path
import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
CHINESE_ENDING = ".zh-CN.md"


class Block(NamedTuple):
    """A bash block without its comments; a command that goes on in the next line is one, `lines` says where each is."""

    line: int
    commands: list[str]
    lines: list[int]


class Link(NamedTuple):
    line: int
    target: str


def _pages() -> list[str]:
    named = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md"))
    return [name for name in ["README.md", *named] if not name.endswith(CHINESE_ENDING)]


# English pages; what they are called below the project's folder is what all functions here take.
PAGES = _pages()


def chinese_of(page: str) -> str:
    return page.removesuffix(".md") + CHINESE_ENDING


def in_both(page: str) -> pytest.MarkDecorator:
    """A test of that page and of its Chinese one."""
    return pytest.mark.parametrize("page", [page, chinese_of(page)])


def text_of(page: str) -> str:
    return (ROOT / page).read_text()


def line_of(text: str, position: int) -> int:
    return text.count("\n", 0, position) + 1


def fenced(page: str) -> list[tuple[int, str, str]]:
    """(line of the first fence, language, text) of each block between fences, also of those inside a list."""
    text = text_of(page)
    found = re.finditer(r"^ *```(\w*)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return [(line_of(text, block.start()), block[1], block[2]) for block in found]


def blocks(page: str) -> list[Block]:
    return [block_of(line, text) for line, language, text in fenced(page) if language == "bash"]


def block_of(line: int, text: str) -> Block:
    commands, lines, begun = [], [], ""
    for number, written in enumerate(text.splitlines(), start=line + 1):
        if not begun:
            lines.append(number)
        begun += written.lstrip() if begun else written
        if written.endswith("\\"):
            begun = begun.removesuffix("\\")
            continue
        if command := re.sub(r"(^|   *)#.*$", "", begun).rstrip():
            commands.append(command)
        else:
            lines.pop()
        begun = ""
    return Block(line, commands, lines)


def prose(page: str) -> str:
    """The page without what stands between fences; lines keep their numbers."""
    return re.sub(
        r"^ *```.*?^ *```$", lambda block: "\n" * block[0].count("\n"), text_of(page), flags=re.MULTILINE | re.DOTALL
    )


def all_code_in(page: str) -> list[str]:
    """What stands in backticks or between fences."""
    return [*code_in(page), *(text for _, _, text in fenced(page))]


def code_in(page: str) -> list[str]:
    """What stands in backticks outside of fences."""
    return [re.sub(r"\s+", " ", code) for code in re.findall(r"`([^`]+)`", prose(page))]


def anchor(heading: str) -> str:
    """The anchor that GitHub gives a heading if no heading before it has the same."""
    shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading.strip())
    return re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")


def anchors(page: str) -> list[str]:
    """Those of all headings in their order; GitHub numbers those that are there already."""
    seen: Counter[str] = Counter()
    found = []
    for heading in re.findall(r"^#+ (.*)$", prose(page), re.MULTILINE):
        plain = anchor(heading)
        found.append(f"{plain}-{seen[plain]}" if seen[plain] else plain)
        seen[plain] += 1
    return found


def links(page: str) -> list[Link]:
    """All links and pictures, Markdown's and HTML's."""
    text = prose(page)
    found = re.finditer(r"\]\(([^)\s]*)[^)]*\)|\b(?:src|href|srcset)=\"([^\"]*)\"", text)
    return [Link(line_of(text, link.start()), link[1] or link[2] or "") for link in found]


def shape(page: str) -> list[str]:
    """The kinds of the page's lines in their order, and of table rows the number of cells."""
    found, fence = [], False
    for line in text_of(page).splitlines():
        if mark := re.match(r" *```(\w*)", line):
            fence = not fence
            found += [f"block of {mark[1] or 'text'}"] if fence else []
        elif fence:
            continue
        elif heading := re.match(r"(#+) ", line):
            found.append(heading[1])
        elif line.startswith("|"):
            found.append(f"row of {line.count('|') - line.count('\\|') - 1}")
        elif item := re.match(r" *(\d+\.|[-*]) ", line):
            found.append(item[0])
    return found


def numbers(page: str) -> set[str]:
    """Figures of two digits and more; small ones are words in one of the languages."""
    without_links = re.sub(r"\]\([^)]*\)", "", prose(page))
    return set(re.findall(r"\d[\d,.]*\d", without_links))


def section(page: str, heading: str) -> str:
    """The text below the English heading with this anchor, down to the next one of its level or above; "" if none."""
    if page.endswith(CHINESE_ENDING):
        english = anchors(page.removesuffix(CHINESE_ENDING) + ".md")
        heading = dict(zip(english, anchors(page), strict=False)).get(heading, heading)
    if heading not in anchors(page):
        return ""
    parts = re.split(r"^(#+) .*$", prose(page), flags=re.MULTILINE)
    levels, texts = parts[1::2], parts[2::2]
    first = anchors(page).index(heading)
    after = [place for place in range(first + 1, len(levels)) if len(levels[place]) <= len(levels[first])]
    return "".join(texts[first : min(after, default=None)])


def is_local(target: str) -> bool:
    return not target.startswith(("https://", "mailto:"))


def file_and_section(page: str, target: str) -> tuple[str, str]:
    """Of a link on that page; the file below the project's folder."""
    file, _, section = target.partition("#")
    return (os.path.normpath(Path(page).parent / file) if file else page), section


def place(page: str, target: str) -> str:
    return "#".join(file_and_section(page, target)) if is_local(target) else target


def in_chinese(page: str, target: str) -> str:
    """Where the link of the English page leads in the Chinese one."""
    if not is_local(target):
        return target
    file, section = file_and_section(page, target)
    if file not in PAGES:
        translated = Path(file).with_suffix(f".zh-CN{Path(file).suffix}")  # a picture with words in it
        return f"{translated if (ROOT / translated).exists() else file}#{section}"
    if section not in anchors(file):
        return f"{chinese_of(file)}#{section}"
    return f"{chinese_of(file)}#{dict(zip(anchors(file), anchors(chinese_of(file)), strict=False)).get(section)}"
