"""The runbook as pages: the documents of the project, with a place for each kind of alarm."""

import re
from functools import cache
from itertools import pairwise
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

DOCUMENTS = ("runbook", "esr", "messages")
# In an installed package the documents lie beside this module, in a checkout in docs/.
FOLDERS = (Path(__file__).parent / "docs", Path(__file__).parents[3] / "docs")


@cache
def document(name: str) -> str:
    """A document as HTML: every heading has an id, and every row of a table one for its first cell.

    A row that speaks of several kinds of alarm ("at risk, too late") has a place for each.
    """
    text = next(path for folder in FOLDERS if (path := folder / f"{name}.md").exists()).read_text()
    made = MarkdownIt("commonmark").enable("table")
    tokens = made.parse(text)
    for opening, inside in pairwise(tokens):
        if inside.type != "inline":
            continue
        if opening.type == "heading_open":
            opening.attrSet("id", slug(inside.content))
        elif opening.type == "th_open":
            opening.attrSet("scope", "col")
        _places(opening, inside)
    html: str = made.renderer.render(_row_ids(tokens), made.options, {})
    for other in DOCUMENTS:
        html = html.replace(f'href="{other}.md', f'href="/sync/runbook?of={other}')
    return re.sub(r'href="(?!/|#|http)[^"]*"', "", html)


def slug(text: str) -> str:
    """A heading's, or a kind of alarm's, name in an address."""
    return re.sub(r"[^\w-]", "", text.lower().replace(" ", "-"))


def _places(opening: Token, inside: Token) -> None:
    """Kinds of alarm behind the first one of a row get an empty place each."""
    first, *others = re.split(r", ", inside.content)
    if opening.type != "td_open" or not others or "." in first or len(first.split()) > 3:
        return
    for other in others:
        if len(other.split()) <= 3:
            place = Token("html_inline", "", 0, content=f'<span id="{slug(other)}"></span>')
            (inside.children or []).append(place)


def _row_ids(tokens: list[Token]) -> list[Token]:
    for index, token in enumerate(tokens[:-2]):
        if token.type == "tr_open" and tokens[index + 1].type == "td_open":
            first = tokens[index + 2].content.split(", ")[0]
            token.attrSet("id", slug(first)[:40])
    return tokens
