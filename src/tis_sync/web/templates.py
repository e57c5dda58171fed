"""Pages: the Jinja2 templates of the package, and filters for times, numbers and states."""

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
from tis_sync.esr.calendar import LONDON

FOLDER = Path(__file__).parent
MINUTE, HOUR, DAY = 60, 3600, 86400
TAG_COLOURS = {
    "succeeded": "green", "done": "green", "ok": "green", "EXPORTED": "green",
    "failed": "red", "missing": "red", "dead": "red", "INVALID_DATA": "red",
    "held": "orange", "drifted": "orange", "out of date": "orange", "attention": "orange",
    "running": "blue", "TO_EXPORT": "blue",
    "resolved": "green", "expired": "red", "failure": "red", "warning": "orange",
    "queued": "aqua-green",
}  # fmt: skip


def moment(value: datetime | None) -> str:
    """A date and time, in UTC."""
    return "–" if value is None else f"{value.astimezone(UTC):%-d %b %Y, %H:%M:%S}"


def clock_time(value: datetime | None) -> str:
    """A time of day, in UTC."""
    return "–" if value is None else f"{value.astimezone(UTC):%H:%M:%S}"


def london(value: datetime) -> str:
    """A date and time, in London."""
    return f"{value.astimezone(LONDON):%A %-d %B, %H:%M} London time"


def number(value: int | None) -> str:
    """A whole number, with separators."""
    return "–" if value is None else f"{value:,}"


def duration(seconds: float | None) -> str:
    """A duration, in the units that suit its length."""
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
    """A name in camel case, as words: placementType is "Placement type"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).capitalize()


def commands(text: str) -> Markup:
    """A text, escaped, with what is in backticks as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704


def tag_colour(state: str) -> str:
    """The colour of a state's tag."""
    return TAG_COLOURS.get(state, "grey")


def environment() -> Environment:
    """Return the templates; every value is escaped, and an undefined name is an error."""
    created = Environment(
        loader=FileSystemLoader(FOLDER / "templates"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    created.filters |= {
        "moment": moment, "clock_time": clock_time, "london": london, "number": number,
        "duration": duration, "tag_colour": tag_colour, "words": words, "commands": commands,
    }  # fmt: skip
    created.globals |= {
        "version": __version__,
        # The idempotency key of a form: sent twice, by a double click or a reload, it starts one
        # run.
        "new_key": lambda: str(uuid4()),
    }
    return created


ENVIRONMENT = environment()


def rendered(template: str, **context: Any) -> str:
    """Return a part of a page."""
    return ENVIRONMENT.get_template(template).render(**context)


def page(
    request: Request, template: str, *, status_code: int = HTTPStatus.OK, **context: Any
) -> HTMLResponse:
    """Return a whole page."""
    common = {
        "path": request.url.path,
        "signs_in": request.app.state.provider is not None,
        "user": None,
    }
    return HTMLResponse(rendered(template, **(common | context)), status_code)
