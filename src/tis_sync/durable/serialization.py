"""How DBOS stores arguments, results and errors: as plain JSON, which cannot execute anything.

By default DBOS stores pickles, so whoever can write its tables can run code in the workers; and
each row names the serializer with which it is read. Here, every row is read as JSON, and what a
value means (a partition, a state) is decided by the signature of the function that it belongs to.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from functools import cache
from inspect import signature
from typing import Any, get_type_hints

from dbos import Serializer, _serialization
from pydantic import TypeAdapter, ValidationError

from tis_sync import errors
from tis_sync.errors import AlreadyRunningError, TisSyncError

ERROR = "$error"  # the key that distinguishes a recorded error from a recorded value
# The errors that are restored as what they were: a workflow treats some of them differently.
ERRORS: dict[str, type[TisSyncError]] = {
    kind.__name__: kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, TisSyncError)
}


class UnreadableRowError(TisSyncError):
    """A row of DBOS's tables does not contain what we store there."""


class RecordedError(Exception):
    """An error of DBOS that was recorded by an earlier attempt."""


class Unreadable(dict[str, Any]):
    """Stands for a value that is not JSON; no workflow accepts it, and no step.

    An error would end the thread of DBOS that reads the schedules, which earlier versions pickled.
    To DBOS this looks like the recorded arguments of a workflow, of which there are none.
    """

    def __init__(self) -> None:
        super().__init__(args=(), kwargs={})


class JsonSerializer(Serializer):
    """Plain JSON; dates as ISO 8601, and errors by the name of their class."""

    def name(self) -> str:
        """What the rows say about the serializer."""
        return "tis_sync_json"

    def serialize(self, data: Any) -> str:
        """Return the text that is stored.

        Raises:
            TypeError: the value is not plain data.

        """
        return json.dumps(data, default=_plain, ensure_ascii=False, separators=(",", ":"))

    def deserialize(self, serialized_data: str) -> Any:
        """Return the value that is stored; an `Unreadable` one if it is not JSON."""
        try:
            return json.loads(serialized_data, object_hook=_restored)
        except ValueError:
            return Unreadable()


class _Refusal(JsonSerializer):
    """Takes the place of a serializer that a row must not choose.

    Args:
        refused: the name by which rows choose it.

    """

    def __init__(self, refused: str) -> None:
        self._refused = refused

    def name(self) -> str:
        return self._refused

    def deserialize(self, serialized_data: str) -> Any:  # noqa: ARG002
        raise UnreadableRowError(
            f"A row of DBOS's tables names the serializer {self._refused}; only {JSON.name()} is "
            "read. An earlier version of tis-sync, or somebody else, has written it."
        )


JSON = JsonSerializer()


def refuse_other_serializers() -> None:
    """Let DBOS read nothing but our JSON in this process, whatever a row says.

    DBOS reads pickles if a row says so, whichever serializer is configured, and has no setting
    against it. So this replaces its own serializers; a test plants pickles in every column.
    """
    for variable in ("DBOSDefaultSerializer", "DBOSPortableJSON"):
        refused = getattr(_serialization, variable).name()
        setattr(_serialization, variable, _Refusal(refused))


def _plain(value: object) -> Any:
    if isinstance(value, date):  # also a datetime
        return value.isoformat()
    if isinstance(value, BaseException):
        names = [kind.__name__ for kind in type(value).__mro__]
        known = [name for name in names if name in ERRORS]
        recorded = {ERROR: (known or names)[0], "message": str(value)}
        if isinstance(value, AlreadyRunningError) and value.run_id is not None:
            recorded["run_id"] = value.run_id
        return recorded
    raise TypeError(f"{type(value).__name__} is not plain data, so it cannot be recorded.")


def _restored(value: dict[str, Any]) -> Any:
    if ERROR not in value:
        return value
    name, message = str(value[ERROR]), str(value.get("message", ""))
    kind = ERRORS.get(name)
    if kind is None:
        return RecordedError(f"{name}: {message}")
    if kind is AlreadyRunningError:
        return AlreadyRunningError(message, value.get("run_id"))
    return kind(message)


@dataclass(frozen=True)
class Signature:
    """The types of a function, by which its values become plain data and come back.

    Attributes:
        parameters: the type of each parameter after the services, in order.
        result: the type of its result.

    """

    parameters: tuple[TypeAdapter[Any], ...]
    result: TypeAdapter[Any]

    def plain_arguments(self, args: tuple[Any, ...]) -> list[Any]:
        """Return arguments as plain data."""
        return [
            kind.dump_python(value, mode="json")
            for kind, value in zip(self.parameters, args, strict=True)
        ]

    def arguments(self, args: tuple[Any, ...]) -> list[Any]:
        """Return the arguments that plain data stand for.

        Raises:
            UnreadableRowError: they do not fit the parameters.

        """
        if len(args) != len(self.parameters):
            raise UnreadableRowError(
                f"A workflow has {len(args)} recorded arguments, not {len(self.parameters)}."
            )
        return [_valid(kind, value) for kind, value in zip(self.parameters, args, strict=True)]

    def plain_result(self, value: Any) -> Any:
        """Return a result as plain data."""
        return self.result.dump_python(value, mode="json")

    def returned(self, value: Any) -> Any:
        """Return the result that plain data stand for.

        Raises:
            UnreadableRowError: they do not fit the type of the result.

        """
        return _valid(self.result, value)


@cache
def signature_of(function: Callable[..., Any]) -> Signature:
    """Return the types of a workflow or step; its first parameter, the services, is left out."""
    hints = get_type_hints(function)
    names = list(signature(function).parameters)[1:]
    adapters = [TypeAdapter[Any](hints.get(name, Any)) for name in names]
    return Signature(tuple(adapters), TypeAdapter(hints.get("return", Any)))


def _valid(kind: TypeAdapter[Any], value: Any) -> Any:
    try:
        return kind.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise UnreadableRowError(
            f"A row of DBOS's tables does not contain what was expected: {first['msg']}. Somebody "
            "else has written it."
        ) from None
