"""A page of headings, texts, tables and pictures, written as Markdown or as one HTML file that can be mailed. Pure."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """May hold **bold** and `code`, as all texts of a page."""

    text: str


@dataclass(frozen=True)
class Items:
    texts: Sequence[str]


@dataclass(frozen=True)
class Table:
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """PNG; `name` is that of a file beside the Markdown."""

    name: str
    title: str
    png: bytes


Block = Heading | Text | Items | Table | Picture

STYLE = """body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#1b2733}
table{border-collapse:collapse;margin:1rem 0}th,td{border:1px solid #d5dde3;padding:.25rem .6rem;text-align:left}
th{background:#f2f5f7}code{background:#f2f5f7;padding:0 .25rem}img{max-width:100%}div{overflow-x:auto}"""


def markdown(blocks: Sequence[Block]) -> str:
    return "\n\n".join(map(_markdown, blocks)) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {text}"
        case Text(text):
            return text
        case Items(texts):
            return "\n".join(f"- {text}" for text in texts)
        case Table(head, rows):
            lines = [head, ["---"] * len(head), *rows]
            return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        case Picture(name, title, _):
            return f"![{title}]({name})"


def page(title: str, blocks: Sequence[Block]) -> str:
    body = "\n".join(map(_html, blocks))
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{STYLE}</style>\n<body>\n{body}\n</body></html>\n"
    )


def _html(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{_inline(text)}</h{level}>"
        case Text(text):
            return f"<p>{_inline(text)}</p>"
        case Items(texts):
            return "<ul>" + "".join(f"<li>{_inline(t)}</li>" for t in texts) + "</ul>"
        case Table(head, rows):
            lines = [("th", head), *(("td", row) for row in rows)]
            cells = ("".join(f"<{tag}>{_inline(c)}</{tag}>" for c in line) for tag, line in lines)
            return "<div><table>" + "".join(f"<tr>{line}</tr>" for line in cells) + "</table></div>"
        case Picture(_, title, png):
            return f'<img alt="{html.escape(title)}" src="data:image/png;base64,{base64.b64encode(png).decode()}">'


def _inline(text: str) -> str:
    marked = re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
    return re.sub(r"\*\*(.+?)\*\*", r"<strong>\1</strong>", marked)
