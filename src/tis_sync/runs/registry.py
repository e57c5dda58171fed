"""What packages beside the night's jobs add to a session: queues, schedules, hooks.

A package registers when it is imported (`tis_sync.esr.workflows`), so that `runs` need not know it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from dbos import ScheduleInput

from tis_sync.runs.services import Services
from tis_sync.settings import Settings


@dataclass(frozen=True)
class Registry:
    """What was registered.

    Attributes:
        queues: DBOS queues by name, with the options of `DBOS.register_queue`.
        schedules: make further schedules of the settings.
        heartbeats: called with every heartbeat of a process that carries out work.
        watches: called with every look of a scheduler for what did not happen.
        companions: blocks that last as long as a scheduler's session.

    """

    queues: dict[str, dict[str, Any]] = field(default_factory=dict)
    schedules: list[Callable[[Settings], list[ScheduleInput]]] = field(default_factory=list)
    heartbeats: list[Callable[[Services], None]] = field(default_factory=list)
    watches: list[Callable[[Services], None]] = field(default_factory=list)
    companions: list[Callable[[Services], AbstractContextManager[None]]] = field(
        default_factory=list
    )


REGISTRY = Registry()
