"""The accepted form of a setting's value, in words, for error messages."""

from datetime import date
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from annotated_types import Ge, Gt, Le, Lt
from pydantic import SecretStr
from pydantic.fields import FieldInfo

from tis_sync.iso_day import FORM

BOUNDS: dict[type, tuple[str, str]] = {
    Ge: ("at least", "ge"),
    Gt: ("more than", "gt"),
    Le: ("at most", "le"),
    Lt: ("less than", "lt"),
}
JSON_KINDS = {str: "texts", int: "whole numbers", float: "numbers"}
SIMPLE = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    date: f"a date: {FORM}",
    Path: "a path",
    str: "text",
    SecretStr: "text",
}


def accepted_form(field: FieldInfo) -> str:
    """Describe the values that a field of the settings accepts.

    A field with `examples` describes itself. Otherwise: "a whole number, at least 1", "console or
    json", "a JSON list of numbers, such as [5, 15]".
    """
    if field.examples:
        return " or ".join(str(example) for example in field.examples)
    limits = [
        f"{words} {getattr(limit, name):,g}"
        for kind, (words, name) in BOUNDS.items()
        for limit in field.metadata
        if isinstance(limit, kind)
    ]
    default = field.get_default(call_default_factory=True)
    return ", ".join([_form(field.annotation, default), *limits])


def _form(kind: Any, default: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in {Union, UnionType}:
        (only,) = (argument for argument in arguments if argument is not type(None))
        return _form(only, default)
    if origin is Annotated:
        return _form(arguments[0], default)
    if origin is dict:
        return f"a JSON object of {JSON_KINDS.get(arguments[1], 'values')} by name"
    if origin is tuple:
        return f"a JSON list of {JSON_KINDS[arguments[0]]}, such as {list(default)}"
    if origin is list:
        return "texts separated by spaces"
    if isinstance(kind, type) and issubclass(kind, StrEnum):
        return " or ".join(kind)
    return SIMPLE[kind]
