"""Days as text: YYYY-MM-DD with a year of four digits, and no other form, wherever one is accepted.

Python's own parser also takes "20260301" and weeks, and pydantic takes numbers: 0 is 1970-01-01. A
mistyped day must be refused, because an export of a wrong day cannot be undone.
"""

import re
from datetime import date
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

FORM = "YYYY-MM-DD"
# Not [0-9]{4}: the year 0020 is a mistyped 2020, and has no four digits in the name of a file.
PATTERN = r"[1-9][0-9]{3}-[0-9]{2}-[0-9]{2}"


def iso_day(text: str) -> date:
    """Read a day of the form YYYY-MM-DD, from 1000-01-01 to 9999-12-31.

    Raises:
        ValueError: the text has another form, or there is no such day.

    """
    try:
        if re.fullmatch(PATTERN, text) is None:
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a date of the form {FORM}") from None


def _day_of(value: object) -> date:
    """Return a day that a program passes; read one that arrives as text."""
    if type(value) is date:  # a datetime is a date, too
        return value
    if not isinstance(value, str):
        # pydantic reports a ValueError only.
        raise ValueError(f"{value!r} is not a date of the form {FORM}, as text")  # noqa: TRY004
    return iso_day(value)


# A day in a setting, a request or a message.
IsoDay = Annotated[
    date,
    BeforeValidator(_day_of),
    WithJsonSchema({"type": "string", "format": "date", "pattern": f"^{PATTERN}$"}),
]
