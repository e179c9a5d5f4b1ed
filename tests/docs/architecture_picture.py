"""The pictures of how the parts work together, docs/architecture*.svg and docs/eventbridge*.svg, from the tables below.

    python tests/docs/architecture_picture.py

writes them all: one layout for each picture, with labels for each language. The colours follow light and dark mode.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

DOCS = Path(__file__).parents[2] / "docs"
COLUMNS, ROWS = (16, 242, 468), (16, 146, 276)  # of the grid: where its boxes begin
WIDTH, HEIGHT = 190, 56  # of a box
MARGIN, CORNER, LINE = 26, 8, 15
Point = tuple[float, float]


class Label(NamedTuple):
    """Lines are separated by a line break."""

    english: str
    chinese: str

    @classmethod
    def same(cls, text: str) -> Label:
        return cls(text, text)


class Box(NamedTuple):
    column: int
    row: int
    kind: str
    title: Label
    detail: Label


class Arrow(NamedTuple):
    """From and to a place on a box: its name, the side, and how far along that side in percent."""

    start: str
    end: str
    label: Label = Label.same("")
    kind: str = ""
    segment: int = 0  # that the label stands at
    before: bool = False  # the label stands left of a vertical segment, not right of it


SOURCE = Box(0, 0, "bucket", Label("source bucket", "源桶"), Label.same("S3 Standard"))
DESTINATION = Box(2, 0, "bucket", Label("directory bucket", "目录存储桶"), Label.same("S3 Express One Zone"))
EVENTS = Label("created, removed,\nexpired, restored", "新建、删除、\n过期、恢复")
BYTES = Arrow("source r50", "destination l50", Label("object bytes never leave S3", "对象数据始终不离开 S3"), "bytes")
LAMBDA, RULE = Label("Lambda function", "Lambda 函数"), Label("EventBridge rule", "EventBridge 规则")
EVERY_MINUTE = Label("every minute", "每分钟")
TASKS = Label("Fargate tasks, Spot first", "Fargate 任务，优先 Spot")
CALLS = Label("CopyObject,\nUploadPartCopy,\nDeleteObject", "CopyObject、\nUploadPartCopy、\nDeleteObject")

PICTURES: dict[str, tuple[dict[str, Box], list[Arrow]]] = {
    "architecture": (
        {
            "source": SOURCE,
            "destination": DESTINATION,
            "queue": Box(0, 1, "queue", Label("SQS queue", "SQS 队列"), Label.same("s3-to-s3express-sync-q")),
            "worker": Box(2, 1, "code", TASKS, Label("worker.py: 0 to MAX_WORKERS", "0 到 MAX_WORKERS 个 Worker")),
            "dead": Box(0, 2, "queue", Label("dead-letter queue", "死信队列"), Label.same("s3-to-s3express-sync-dlq")),
            "starter": Box(1, 2, "code", LAMBDA, Label.same("starter.py")),
            "rule": Box(2, 2, "rule", RULE, EVERY_MINUTE),
        },
        [
            BYTES,
            Arrow("source b50", "queue t50", EVENTS),
            Arrow("queue r50", "worker l50", Label("messages", "消息")),
            Arrow("worker t50", "destination b50", CALLS, before=True),
            Arrow("queue b30", "dead t30", Label("failed\n3 times", "失败\n3 次"), "dashed", before=True),
            Arrow("queue b70", "starter t25", Label("how many wait?", "有多少在等待？"), "dashed", segment=1),
            Arrow("starter t75", "worker b30", Label.same("RunTask"), segment=1),
            Arrow("rule l50", "starter r50"),
        ],
    ),
    "eventbridge": (
        {
            "source": SOURCE,
            "destination": DESTINATION,
            "events": Box(0, 1, "rule", RULE, Label("each event, at once", "每个事件，立即触发")),
            "queue": Box(1, 1, "queue", Label("SQS queue", "SQS 队列"), Label.same("s3-to-s3express-sync-q")),
            "worker": Box(2, 1, "code", TASKS, Label("worker.py: large objects, bursts", "worker.py：大对象、大批量")),
            "rule": Box(0, 2, "rule", RULE, Label("every minute: safety net", "每分钟，作为保障")),
            "starter": Box(1, 2, "code", LAMBDA, Label("starter.py: small objects", "starter.py：小对象")),
        },
        [
            BYTES,
            Arrow("source b50", "events t50", EVENTS),
            Arrow("events r50", "queue l50"),
            Arrow("events b75", "starter t25", Label("starts it", "启动"), segment=1),
            Arrow("rule r50", "starter l50"),
            Arrow("queue b60", "starter t60", Label("messages", "消息")),
            Arrow("queue r50", "worker l50"),
            Arrow("starter r30", "worker b40", Label.same("RunTask"), segment=1),
            Arrow("worker t40", "destination b40", CALLS, before=True),
            Arrow("starter r75", "destination r50", Label("CopyObject, DeleteObject", "CopyObject、DeleteObject")),
        ],
    ),
}

# GitHub's own colours. The background is the picture's, so it is readable even if a viewer knows only one mode.
STYLE = """<style>
svg { --paper: #ffffff; --edge: #d1d9e0; --ink: #1f2328; --soft: #59636e; --bytes: #1a7f37; --bucket: #dafbe1;
  --queue: #fff8c5; --code: #ddf4ff; --rule: #f6f8fa; }
@media (prefers-color-scheme: dark) { svg { --paper: #0d1117; --edge: #3d444d; --ink: #f0f6fc; --soft: #9198a1;
  --bytes: #3fb950; --bucket: #12261e; --queue: #272115; --code: #121d2f; --rule: #151b23; } }
text { font: 12px system-ui, -apple-system, "Segoe UI", "Noto Sans", Helvetica, Arial, "PingFang SC",
  "Microsoft YaHei", "Noto Sans CJK SC", sans-serif; fill: var(--soft); }
.title { font-size: 14px; font-weight: 600; fill: var(--ink); }
rect { stroke: var(--edge); fill: var(--paper); }
.bucket { fill: var(--bucket); } .queue { fill: var(--queue); }
.code { fill: var(--code); } .rule { fill: var(--rule); }
path { fill: none; stroke: var(--soft); stroke-width: 1.5; }
marker path { fill: var(--soft); stroke: none; }
path.dashed { stroke-dasharray: 5 3; }
path.bytes { stroke: var(--bytes); stroke-width: 3; } text.bytes { fill: var(--bytes); font-weight: 600; }
marker.bytes path { fill: var(--bytes); }
</style>"""
HEADS = "".join(
    f'<marker id="head{kind}" class="{kind}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="{size}" '
    f'markerHeight="{size}" orient="auto"><path d="M0 0L8 4L0 8z"/></marker>'
    for kind, size in (("", 7), ("bytes", 4.5))
)


def corner(box: Box) -> Point:
    return COLUMNS[box.column], ROWS[box.row]


def spot(boxes: dict[str, Box], place: str) -> tuple[str, Point]:
    """The side (l, r, t, b) and the point of a place such as "queue r50"."""
    name, side, part = place.split(" ")[0], place[-3], int(place[-2:]) / 100
    x, y = corner(boxes[name])
    if side in "lr":
        return side, (x + (WIDTH if side == "r" else 0), y + HEIGHT * part)
    return side, (x + WIDTH * part, y + (HEIGHT if side == "b" else 0))


def route(boxes: dict[str, Box], arrow: Arrow) -> list[Point]:
    """Its points: an arrow goes only along and across the picture."""
    (leaves, (x, y)), (arrives, (to_x, to_y)) = spot(boxes, arrow.start), spot(boxes, arrow.end)
    if leaves in "lr" and arrives in "tb":
        return [(x, y), (to_x, y), (to_x, to_y)]
    if leaves == arrives == "r":
        outside = max(x, to_x) + MARGIN / 2
        return [(x, y), (outside, y), (outside, to_y), (to_x, to_y)]
    if x == to_x or y == to_y:
        return [(x, y), (to_x, to_y)]
    middle = (y + to_y) / 2
    return [(x, y), (x, middle), (to_x, middle), (to_x, to_y)]


def text(point: Point, lines: str, anchor: str, kind: str = "") -> Iterator[str]:
    x, y = point
    style = f' class="{kind}"' if kind else ""
    for number, line in enumerate(lines.split("\n")):
        yield f'<text x="{x:g}" y="{y + number * LINE:g}" text-anchor="{anchor}"{style}>{escape(line)}</text>'


def label(arrow: Arrow, points: list[Point], language: int) -> Iterator[str]:
    (x, y), (to_x, to_y) = list(pairwise(points))[arrow.segment]
    lines, kind = arrow.label[language], arrow.kind.replace("dashed", "")
    if not lines:
        return
    if y == to_y:
        yield from text(((x + to_x) / 2, y - 7), lines, "middle", kind)
        return
    top = (y + to_y) / 2 + 4 - lines.count("\n") * LINE / 2
    yield from text((x - 8 if arrow.before else x + 8, top), lines, "end" if arrow.before else "start", kind)


def svg(program: str, size: tuple[int, int], *definitions: str, parts: Iterable[str]) -> str:
    """A picture on paper of that size, and which program made it."""
    width, height = size
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
    paper = f'<rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="{CORNER}"/>'
    made_by = f"<!-- Made by tests/docs/{program} -->"
    return "\n".join([head, made_by, STYLE, *definitions, paper, *parts, "</svg>", ""])


def draw(name: str, language: int) -> str:
    boxes, arrows = PICTURES[name]
    parts: list[str] = []
    for box in boxes.values():
        x, y = corner(box)
        parts.append(f'<rect class="{box.kind}" x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="{CORNER}"/>')
        parts += text((x + WIDTH / 2, y + 24), box.title[language], "middle", "title")
        parts += text((x + WIDTH / 2, y + 43), box.detail[language], "middle")
    for arrow in arrows:
        points = route(boxes, arrow)
        kind, head = (f' class="{arrow.kind}"' if arrow.kind else ""), "bytes" if arrow.kind == "bytes" else ""
        line = "L".join(f"{x:g} {y:g}" for x, y in points)
        parts.append(f'<path{kind} d="M{line}" marker-end="url(#head{head})"/>')
        parts += label(arrow, points, language)
    size = COLUMNS[-1] + WIDTH + MARGIN, ROWS[-1] + HEIGHT + ROWS[0]
    return svg("architecture_picture.py", size, HEADS, parts=parts)


def files() -> Iterator[tuple[Path, str]]:
    """Each picture's file, and what it contains."""
    for name in PICTURES:
        for language, ending in enumerate((".svg", ".zh-CN.svg")):
            yield DOCS / f"{name}{ending}", draw(name, language)


if __name__ == "__main__":
    for path, svg in files():
        path.write_text(svg)
        print(path)
