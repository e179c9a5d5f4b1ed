"""Words that the project does not use, each with the word to use instead: see "Words" in CONTRIBUTING.md.

What stands in backticks or between fences is left out: log lines, JSON fields and commands are an interface."""

from __future__ import annotations

import re

import pytest
from pages import CHINESE_ENDING, PAGES, ROOT, chinese_of, prose, text_of

# Pages that are rewritten elsewhere at this moment: empty this list when they are merged.
NOT_YET: tuple[str, ...] = ()

ENGLISH = {
    r"lack(s|ed|ing)?": "missing",
    r"mend(s|ed|ing)?": "fix",
    r"reckon(s|ed|ing)?": "calculate, estimate, expect",
    r"tells?|told|telling": "say, report, show",
    r"surroundings": "environment",
    r"let(s|ting)? go": "remove",
    r"s[ia]ts? (it )?out": "wait",
    r"of (before|above|below|today)": "above, earlier",
    r"who(m)?ever": "anyone who, you",
    r"whose clock": "which clock measured it",
    r"(a|an|one|no|the|its|each|every|first|last|third|of) tr(y|ies)": "attempt",
    r"anew": "again",
    r"in vain": "without success",
    r"fast motion": "simulated",
    r"next to nothing": "almost nothing",
    r"sooner done": "finished sooner",
    r"the minute's": "every minute",
    r"so many (?!that)\w+(?! that)": "this many",
    r"all else": "everything else",
    r"(a|one) (request|HEAD|alarm|page|look|message) more": "one more request",
    r"for good": "permanently",
    r"for ever": "always, indefinitely",
    r"nobody's": "no longer managed",
    r"as (it|they) comes?": "in the order in which they arrive",
    r"where no \w+ is": "if there is no",
    r"in a hurry": "urgent",
    r"For who (?!has)": "this page is for you if",
    r"Who (?!has|is)\w+s(?= [^.?]*[.:])": "you, anyone who, the caller",
}

CHINESE = {
    r"整体故障": "服务中断",
    r"替身|仿真|模拟的 S3|模拟环境": "模拟服务",
    r"补录": "回填",
    r"放走": "清理旧数据",
    r"归任何人管": "不再受管理",
    r"(用掉|消耗)\w{0,8}次数": "计入失败次数",
    r"美元": "USD",
    r"白等|白白": "仍未等到",
    r"触碰": "原地复制",
    r"快进": "模拟的一个月",
    r"清不空": "积压无法消除",
    r"谁的时钟": "由哪个时钟测得",
    r"(?<![\w.-])reconcile(?![\w.-])": "对账",
    r"(?<![*\w])\*[^*\s|][^*\n|]*\*(?![*\w])": "**加粗** instead of slanted letters",
}

CHAPTER = r"^## Words$.*?(?=^## )"


def words_of(page: str) -> str:
    """What readers of the page read as text; lines keep their numbers."""
    if page == "CONTRIBUTING.md":  # its pictures are text
        return without_code(re.sub(CHAPTER, same_lines, text_of(page), flags=re.MULTILINE | re.DOTALL))
    if page.endswith(".sh"):
        return help_of(page)
    return without_code(re.sub(r"\]\([^)]*\)", same_lines, prose(page)))


def without_code(text: str) -> str:
    return re.sub(r"`[^`]+`", same_lines, text)


def same_lines(found: re.Match[str]) -> str:
    return "\n" * found[0].count("\n")


def help_of(script: str) -> str:
    """The comment at its head, and of deploy.sh what stands beside the settings, which is its help as well."""
    head, *rest = re.split(r"^(?!#)", text_of(script), maxsplit=1, flags=re.MULTILINE)
    settings = [line.partition("#")[2] if line.startswith(': "${') else "" for line in "".join(rest).splitlines()]
    return head + "\n".join(settings)


SCRIPTS = [
    *sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("lib/verbs/*.sh")),
    "deploy.sh",
    "cleanup.sh",
]
ALL = [*PAGES, *map(chinese_of, PAGES), "CONTRIBUTING.md", *SCRIPTS]


def wrong_words(text: str, *, chinese: bool) -> list[str]:
    patterns = CHINESE if chinese else {rf"(?<![\w-])(?:{word})(?![\w-])": use for word, use in ENGLISH.items()}
    found = [
        (use, text.count("\n", 0, hit.start()) + 1, hit[0])
        for word, use in patterns.items()
        for hit in re.finditer(re.sub(" ", r"\\s+", word) if not chinese else word, text)
    ]
    return [f"line {line}: {hit!r}: use {use}" for use, line, hit in sorted(found, key=lambda one: one[1])]


@pytest.mark.parametrize("page", [page for page in ALL if page not in NOT_YET])
def test_only_words_of_the_table_are_used(page: str) -> None:
    assert wrong_words(words_of(page), chinese=page.endswith(CHINESE_ENDING)) == []


@pytest.mark.parametrize(
    ("text", "chinese"), [("the keys\nthat lack", False), ("costs it a\ntry", False), ("5 美元", True)]
)
def test_a_wrong_word_is_found(text: str, chinese: bool) -> None:
    assert len(wrong_words(text, chinese=chinese)) == 1


def test_help_and_settings_are_read() -> None:
    assert "usage: ./deploy.sh" in help_of("deploy.sh")
    assert "which keys" in help_of("deploy.sh") or "only what changed" in help_of("deploy.sh")
