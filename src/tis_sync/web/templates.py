"""Pages: Jinja2 templates of the package, and how they say moments, numbers and states."""

import re
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any
from uuid import uuid4

from fastapi import Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse

from tis_sync import __version__
from tis_sync.esr.deaneries import LONDON

HERE = Path(__file__).parent
MINUTE, HOUR, DAY = 60, 3600, 86400
TAGS = {
    "succeeded": "green", "done": "green", "ok": "green", "EXPORTED": "green",
    "failed": "red", "missing": "red", "dead": "red", "INVALID_DATA": "red",
    "held": "orange", "drifted": "orange", "attention": "orange",
    "running": "blue", "TO_EXPORT": "blue",
    "queued": "aqua-green",
}  # fmt: skip


def moment(value: datetime | None) -> str:
    """A moment, in UTC."""
    return "–" if value is None else f"{value.astimezone(UTC):%-d %b %Y, %H:%M:%S}"


def clock_time(value: datetime | None) -> str:
    """The time of day of a moment, in UTC."""
    return "–" if value is None else f"{value.astimezone(UTC):%H:%M:%S}"


def london(value: datetime) -> str:
    """A moment, in London."""
    return f"{value.astimezone(LONDON):%A %-d %B, %H:%M} London time"


def number(value: int | None) -> str:
    """A whole number."""
    return "–" if value is None else f"{value:,}"


def duration(seconds: float | None) -> str:
    """A duration, as exact as people want it."""
    if seconds is None:
        return "–"
    if seconds < MINUTE:
        return f"{seconds:.1f} s"
    if seconds < HOUR:
        return f"{seconds // MINUTE:.0f} min {seconds % MINUTE:.0f} s"
    if seconds < 2 * DAY:
        return f"{seconds // HOUR:.0f} h {seconds % HOUR // MINUTE:.0f} min"
    return f"{seconds / DAY:.0f} days"


def words(name: str) -> str:
    """A name that a program uses, in words: placementType is "Placement type"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).capitalize()


def commands(text: str) -> Markup:
    """A text for people, escaped; what stands in backticks is a command, and shown as such."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704


def tag_colour(state: str) -> str:
    """The colour that a state is shown in."""
    return TAGS.get(state, "grey")


def environment() -> Environment:
    """The templates, every value escaped, and a name that is not there an error."""
    made = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {
        "moment": moment, "clock_time": clock_time, "london": london, "number": number,
        "duration": duration, "tag_colour": tag_colour, "words": words, "commands": commands,
    }  # fmt: skip
    made.globals |= {
        "version": __version__,
        # A form that is sent twice, by a double click or a reload, starts one run.
        "new_key": lambda: str(uuid4()),
    }
    return made


ENVIRONMENT = environment()


def rendered(template: str, **context: Any) -> str:
    """A part of a page."""
    return ENVIRONMENT.get_template(template).render(**context)


def page(
    request: Request, template: str, *, status_code: int = HTTPStatus.OK, **context: Any
) -> HTMLResponse:
    """A whole page."""
    about = {"path": request.url.path, "signs_in": request.app.state.provider is not None}
    return HTMLResponse(rendered(template, **({"who": None} | about | context)), status_code)
