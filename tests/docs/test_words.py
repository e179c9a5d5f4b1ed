"""Words that the project does not use, each with the word to use instead: see "Words" in CONTRIBUTING.md.

They are looked for on the pages, in help texts, in the messages of the product, and in all comments and docstrings.
Text in backticks or between fences is left out: log lines, JSON fields and commands are an interface."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pages import CHINESE_ENDING, PAGES, ROOT, chinese_of, line_of, prose, text_of

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
    r"commas between them|comma separated": "separated by commas",
    r"in work": "in flight",
    r"c[ao]mes? to (its|their|an) end": "finish",
    r"of the shape of": "in the format of",
    r"\d+ %": "the percent sign without a blank",
}

# Of messages, which have to be understood at once.
OF_MESSAGES = {
    r"(?<!here\s)(is|are) no (?!longer|such|more|event)\w+": "is not a",
    r"(?<=,) as (an?|it|its|others?|the|there|they|their|we|nobody|nothing|AWS|EventBridge|IAM|S3|SQS)": "because",
    r"(allow|allows) yourself": "grant yourself",
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
    r"拉取请求": "Pull Request",
    r"启动器": "Starter",
    r"账户号": "账户 ID",
    r"读取者": "读取方",
    r"目录桶|标准桶": "目录存储桶、标准存储桶",
    r"开发者指南": "开发人员指南",
    r"(?<![\w.-])reconcile(?![\w.-])": "对账",
    r"守卫": "事件路径自检",
    r"两边": "两侧",
    r"退回": "放回",
    r"\d %": "百分号前不留空格",
    r"(?<![*\w])\*[^*\s|][^*\n|]*\*(?![*\w])": "**加粗** instead of slanted letters",
}


def of_english(words: dict[str, str]) -> dict[str, str]:
    """Patterns of them as whole words, which may stand on two lines."""
    return {rf"(?<![\w-])(?:{word.replace(' ', r'\s+')})(?![\w-])": use for word, use in words.items()}


IN_TEXTS, IN_MESSAGES = of_english(ENGLISH), of_english(ENGLISH | OF_MESSAGES)
PAGES_OF_WORDS = [*PAGES, *map(chinese_of, PAGES), "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md"]
CHAPTER = r"^## Words$.*?(?=^## )"


def words_of(page: str) -> str:
    """What readers of the page read as text; lines keep their numbers."""
    if page == "CONTRIBUTING.md":  # its pictures are text
        return without_code(re.sub(CHAPTER, same_lines, text_of(page), flags=re.MULTILINE | re.DOTALL))
    if page == "CHANGELOG.md":  # older releases stay as they were announced
        return without_code(text_of(page).partition("\n## 1.1.0")[0])
    return without_code(re.sub(r"\]\([^)]*\)", same_lines, prose(page)))


def without_code(text: str) -> str:
    return re.sub(r"`[^`]+`", same_lines, text)


def same_lines(found: re.Match[str]) -> str:
    return "\n" * found[0].count("\n")


def wrong_words(text: str, patterns: dict[str, str]) -> list[str]:
    found = [
        (line_of(text, hit.start()), hit[0], use) for word, use in patterns.items() for hit in re.finditer(word, text)
    ]
    return [f"line {line}: {hit!r}: use {use}" for line, hit, use in sorted(found)]


@pytest.mark.parametrize("page", PAGES_OF_WORDS)
def test_only_words_of_the_table_are_used(page: str) -> None:
    assert wrong_words(words_of(page), CHINESE if page.endswith(CHINESE_ENDING) else IN_TEXTS) == []


# Messages, comments (of which help texts are made) and docstrings

INTERFACE = r"\blacking key=|which is no fault|\$\w+|\w+\(\)"  # log lines, variables and functions
SOURCES = ("*.py", "*.sh", "launch", "lib", "local", "mirror")
Texts = Iterator[tuple[int, str]]


def files_of(names: Iterable[str]) -> list[Path]:
    found: set[Path] = set()
    for name in names:
        found |= set(ROOT.glob(name) if "*" in name else (ROOT / name).rglob("*"))
    return sorted(path for path in found if path.suffix in (".py", ".sh", ".jq") and path != Path(__file__))


def comments_of(file: Path) -> Texts:
    """(line, text) of each, with docstrings. A "#" inside a string of Python counts as a comment too."""
    text = file.read_text()
    for found in re.finditer(r"(?:^|(?<=\s))#.*", text, re.MULTILINE):
        yield line_of(text, found.start()), found[0]
    if file.suffix == ".py":
        yield from ((node.lineno, node.value) for node in docstrings_of(ast.parse(text)))


def messages_of(file: Path) -> Texts:
    """(line, text) of each string of a few words; in Bash and jq those in quotes on one line."""
    text = file.read_text()
    if file.suffix == ".py":
        tree = ast.parse(text)
        docstrings = {id(node) for node in docstrings_of(tree)}
        for node in ast.walk(tree):
            said = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
            if said.count(" ") > 2 and id(node) not in docstrings:
                yield node.lineno, said
        return
    for number, line in enumerate(text.splitlines(), start=1):
        quoted = [] if line.lstrip().startswith("#") else re.findall(r'"((?:[^"\\]|\\.)*)"|\'([^\']*)\'', line)
        yield from ((number, double or single) for double, single in quoted if (double or single).count(" ") > 2)


def docstrings_of(node: Any) -> Iterator[Any]:
    """That of a module, a class or a function, and of those in it."""
    first = node.body[0] if node.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        yield first.value
    for inner in node.body:
        if isinstance(inner, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            yield from docstrings_of(inner)


def wrong_texts(file: Path, texts: Texts, patterns: dict[str, str]) -> list[str]:
    wrong = []
    for line, text in texts:
        words = without_code(re.sub(INTERFACE, "", text))
        wrong += [f"{file.name}, near line {line}: {one}" for one in wrong_words(words, patterns)]
    return wrong


def test_comments_and_docstrings_use_only_words_of_the_table() -> None:
    files = files_of([*SOURCES, "tests"])
    assert len(files) > 200
    assert [wrong for file in files for wrong in wrong_texts(file, comments_of(file), IN_TEXTS)] == []


def test_messages_use_only_words_of_the_table() -> None:
    assert [wrong for file in files_of(SOURCES) for wrong in wrong_texts(file, messages_of(file), IN_MESSAGES)] == []
