"""The runbook as pages: documents of the project, with an anchor for each kind of alarm."""

import re
from functools import cache
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from tis_sync.alarms.catalogue import KINDS

DOCUMENTS = tuple(dict.fromkeys(kind.runbook for kind in KINDS))
# An installed package contains the documents in its own folder `docs`; a checkout has them in its
# root.
PACKAGE = Path(__file__).parents[2]
FOLDERS = (PACKAGE / "web/docs", PACKAGE.parents[1] / "docs")


@cache
def document(name: str) -> str:
    """Return a document as HTML.

    Every heading has an id, and so has every table row that describes a kind of alarm: the kind's
    anchor.
    """
    path = next(path for folder in FOLDERS if (path := folder / f"{name}.md").exists())
    markdown = MarkdownIt("commonmark").enable("table")
    tokens = markdown.parse(path.read_text())
    _add_attributes(tokens, {kind.name: kind.anchor for kind in KINDS if kind.runbook == name})
    html: str = markdown.renderer.render(tokens, markdown.options, {})
    for other in DOCUMENTS:
        html = html.replace(f'href="{other}.md', f'href="/sync/runbook/{other}')
    # Other documents are not part of the console, so links to them are removed.
    return re.sub(r'href="(?!/|#|http)[^"]*"', "", html)


def heading_id(text: str) -> str:
    """Return the id of a heading, as GitHub computes it."""
    return re.sub(r"[^\w-]", "", text.lower().replace(" ", "-"))


def _add_attributes(tokens: list[Token], anchors: dict[str, str]) -> None:
    for row, opening, inline in zip(tokens, tokens[1:], tokens[2:], strict=False):
        if opening.type == "heading_open":
            opening.attrSet("id", heading_id(inline.content))
        elif opening.type == "th_open":
            opening.attrSet("scope", "col")
        elif row.type == "tr_open" and (name := inline.content.strip("`*")) in anchors:
            row.attrSet("id", anchors[name])
