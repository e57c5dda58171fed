"""Reading the settings, and explaining wrong values and variables that are not settings."""

import os
from collections.abc import Iterable
from difflib import get_close_matches
from json import loads
from typing import get_args, get_origin

from dotenv import dotenv_values
from pydantic import SecretStr, ValidationError
from pydantic_settings import SettingsError

from tis_sync.errors import UsageError
from tis_sync.settings.forms import accepted_form
from tis_sync.settings.model import FILE, HIDDEN, PREFIX, Settings

OTHER_PREFIXES = ("TIS_SYNC_TEST_", "TIS_SYNC_BENCH_")  # of variables that are not settings
SIMILARITY = 0.6  # from 0 to 1: how similar a misspelt name must be to the one we suggest


def load_settings() -> Settings:
    """Read the settings from the environment, and from the file `.env`.

    Raises:
        UsageError: a value is invalid; the message names the variable, the value unless it may be
            secret, the reason, and the accepted form.

    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        field, reason = str(first["loc"][0]), first["msg"].removeprefix("Value error, ")
        raise UsageError(_invalid(field, _given().get(field.upper()), reason)) from None
    except SettingsError:
        for field, value in _given().items():
            if not _is_json(field.lower(), value):
                raise UsageError(_invalid(field.lower(), value, "it is not JSON")) from None
        raise


def unknown_settings() -> dict[str, str | None]:
    """The variables that begin with our prefix but are no settings, and the most similar settings.

    A misspelt setting would otherwise go unnoticed.
    """
    known = [name.upper() for name in Settings.model_fields]
    similar = {
        PREFIX + name: get_close_matches(name, known, n=1, cutoff=SIMILARITY)
        for name in sorted(_given().keys() - set(known))
        if not (PREFIX + name).startswith(OTHER_PREFIXES)
    }
    return {name: PREFIX + found[0] if found else None for name, found in similar.items()}


def unknown_setting_hint(similar: str | None) -> str:
    """Say what to do about an unknown setting, given the most similar setting."""
    return f"did you mean {similar}?" if similar else "docs/settings.md lists all settings."


def _given() -> dict[str, str]:
    """The values of all variables with our prefix, by the rest of their name in upper case.

    As for the settings themselves, the environment goes before the file `.env`, and case does not
    matter.
    """
    sources: Iterable[dict[str, str | None]] = (dotenv_values(FILE), dict(os.environ))
    return {
        name.upper().removeprefix(PREFIX): value or ""
        for source in sources
        for name, value in source.items()
        if name.upper().startswith(PREFIX)
    }


def _is_json(field: str, value: str) -> bool:
    """Whether the value of a setting that is written in JSON can be read; True for all others."""
    info = Settings.model_fields.get(field)
    if info is None or get_origin(info.annotation) not in {dict, tuple}:
        return True
    try:
        loads(value)
    except ValueError:
        return False
    return True


def _invalid(field: str, value: str | None, reason: str) -> str:
    info = Settings.model_fields[field]
    is_secret = field in HIDDEN or SecretStr in (info.annotation, *get_args(info.annotation))
    quoted = "" if is_secret or value is None else f"={value!r}"
    return (
        f"{PREFIX}{field.upper()}{quoted} is invalid: {reason[:1].lower()}{reason[1:]}. "
        f"Accepted: {accepted_form(info)}."
    )
