"""The pages and what stands in them: fenced blocks, tables, links, headings."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (
    "README.md",
    "CHANGELOG.md",
    *(str(p.relative_to(ROOT)) for p in sorted((ROOT / "docs").rglob("*.md"))),
)
IN_PARTS = ("from: ", "part: ", "signatures: ")
"""Marks of blocks that nothing can run alone; tests/docs/test_plugin_guide.py looks at them."""

_FENCE = re.compile(r"```(\S*)$")
_MARK = re.compile(r"<!-- (.+?) -->$")


@dataclass(frozen=True)
class Block:
    """A fenced block. ``mark`` is the comment on the line before it, without its arrows."""

    page: str
    line: int
    language: str
    mark: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@cache
def text_of(page: str) -> str:
    """The page's text."""
    return (ROOT / page).read_text()


@cache
def blocks(*languages: str, page: str = "") -> tuple[Block, ...]:
    """All blocks that stand alone in those languages, any block without, in order."""
    found = [block for one in PAGES if page in ("", one) for block in _blocks_of(one)]
    return tuple(
        b for b in found
        if not languages or (b.language in languages and not b.mark.startswith(IN_PARTS))
    )  # fmt: skip


def marked(page: str, mark: str) -> Block:
    """The one block of the page with that mark."""
    found = [block for block in _blocks_of(page) if block.mark == mark]
    assert len(found) == 1, f"{page} has {len(found)} blocks marked {mark!r}"
    return found[0]


@cache
def _blocks_of(page: str) -> tuple[Block, ...]:
    found: list[Block] = []
    lines = text_of(page).splitlines()
    start: int | None = None
    for number, line in enumerate(lines):
        if start is not None:
            if line == "```":
                found.append(_block(page, lines, start, number))
                start = None
        elif _FENCE.match(line):
            start = number
    assert start is None, f"{page}:{(start or 0) + 1}: the block has no end"
    return tuple(found)


def _block(page: str, lines: list[str], start: int, end: int) -> Block:
    fence = _FENCE.match(lines[start])
    mark = _MARK.match(lines[start - 1]) if start else None
    text = "\n".join(lines[start + 1 : end]) + "\n"
    return Block(page, start + 1, fence[1] if fence else "", mark[1] if mark else "", text)


def table(page: str, mark: str) -> list[list[str]]:
    """The rows, without the heading, of the table under the comment with that mark."""
    _, found, rest = text_of(page).partition(f"<!-- {mark} -->\n")
    assert found, f"{page} has no table marked {mark!r}"
    rows = []
    for line in rest.splitlines():
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))])
    assert len(rows) > 2, f"{page}: the table marked {mark!r} is empty"
    return rows[2:]


def prose(page: str) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)


@cache
def anchors(page: str) -> frozenset[str]:
    """The anchors of the page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return frozenset(heading.replace(" ", "-") for heading in plain)
