"""The export as durable work: one workflow a command, one at a time a deanery, many in parallel.

    export:  begin -> records up to date -> claim, number and record the file (one transaction)
             -> write it, verified -> tell TCS -> the records are EXPORTED -> done

What can pass (a server that is away) is tried again after growing waits; what cannot, or the last
attempt, leaves the command dead: listed, alarmed, and mended by one command. Each step may be
repeated after a crash and then does no harm.
"""

from datetime import date, datetime, timedelta
from functools import partial

import polars as pl
from dbos import DBOS, ScheduleInput, SetEnqueueOptions, SetWorkflowID

from tis_sync.errors import LockedError, StorageFullError, TisSyncError, UnreachableError
from tis_sync.esr import files, notifications
from tis_sync.esr.broker import outbox
from tis_sync.esr.commands import Command, Commands
from tis_sync.esr.deaneries import APP, DEANERIES, DNF, EXPORT_AT, due, london_day
from tis_sync.esr.destination import Destination
from tis_sync.esr.forget import forget
from tis_sync.esr.generations import bring_up_to_date
from tis_sync.esr.missed import load_missed_days
from tis_sync.esr.sources import layout_of
from tis_sync.esr.tell import tell
from tis_sync.logs import get
from tis_sync.runs.registry import REGISTRY
from tis_sync.runs.services import Services, services
from tis_sync.runs.step import step
from tis_sync.settings import Settings

QUEUE = "tis_sync_esr"
GENERATE_QUEUE = "tis_sync_esr_generate"
COMMANDS_AT_ONCE = 4  # of one process; each waits mostly for TCS and the destination
PASSING = (UnreachableError, StorageFullError, LockedError)
ORPHAN_SECONDS = 10.0  # a command asked for this long ago whose workflow was never queued
DEAD = "dead"  # kind of alarm


@DBOS.workflow(name="tis_sync.esr_export")
def export(command_id: str) -> str:
    """Carry out one command; returns the state in which it ended."""
    waits = retry_waits()
    for wait in (*waits, None):
        try:
            begin(command_id)
            refresh(command_id)
            name = claim(command_id)
            write(name)
            report(name)
            return end_command(command_id, "done", None)
        except PASSING as error:
            if wait is None:
                return end_command(command_id, "dead", str(error))
            note_failure(command_id, str(error), wait)
            DBOS.sleep(wait)
        except TisSyncError as error:
            return end_command(command_id, "dead", str(error))
    raise AssertionError


@step
def retry_waits() -> list[float]:
    """The waits of the setting, recorded: a command keeps those with which it began."""
    return list(services().settings.esr_retry_seconds)


@step
def begin(command_id: str) -> None:
    """An attempt begins."""
    s = services()
    Commands(s.state).begin(command_id, s.clock())


@step
def refresh(command_id: str) -> None:
    """Bring records, or notifications, up to date, unless somebody has since the command."""
    s = services()
    command = Commands(s.state).get(command_id)
    if command.file is not None:
        return
    if command.file_type == APP:
        bring_up_to_date(s, trigger="export", who=command.who, since=command.created_at)
    else:
        load_missed_days(s, since=command.created_at)


@step
def claim(command_id: str) -> str:
    """Decide the command's file: its number, and what stands in it."""
    s = services()
    commands = Commands(s.state)
    command = commands.get(command_id)
    if command.file is not None:
        return command.file
    scheduled = command.trigger in {"schedule", "catch-up"}
    made = files.claim(
        s.state,
        command_id=command.id,
        file_type=command.file_type,
        deanery=command.deanery,
        day=command.day,
        now=s.clock(),
        new=command.new or command.file_type == DNF,
        made_before=due(command.file_type, command.day) if scheduled else None,
        first_number=s.settings.esr_first_numbers.get(command.file_type, 0),
        rows=None if command.file_type == APP else _notifications(s, command),
    )
    commands.note(command_id, file=made.name)
    return made.name


def _notifications(s: Services, command: Command) -> pl.DataFrame:
    return notifications.of_deanery(
        s.state,
        s.tcs(),
        command.deanery,
        s.settings.esr_deaneries,
        s.settings.esr_since,
        london_day(s.clock()),
        full=command.file_type == DNF,
    )


@step
def write(name: str) -> None:
    """Have the file lie at its destination, the same bytes every time."""
    s = services()
    file = _file(s, name)
    data = files.content(s.state, file, layout_of(file.file_type, s.settings))
    if file.sha256 is not None and files.sha256(data) != file.sha256:
        raise TisSyncError(
            f"{name} was sent with other bytes: the layout of {file.file_type} files has changed "
            "since. Put the old layout back (TIS_SYNC_ESR_LAYOUTS), or export with --new."
        )
    Destination(s.settings.export(), s.settings.export_options).put(name, data)
    files.written(s.state, file, data, s.clock())


@step
def report(name: str) -> None:
    """Tell TCS; then, and only then, the records are EXPORTED."""
    s = services()
    file = _file(s, name)
    if file.told_at is not None:
        return
    if file.file_type == APP:
        assert file.written_at is not None
        tell(s.tcs(), file, files.exported_records(s.state, file), file.written_at)
    now = s.clock()
    told = None if s.settings.broker_url is None else partial(outbox.write, file=file, now=now)
    files.settle(s.state, file, now, told)


def _file(s: Services, name: str) -> files.File:
    file = files.file_named(s.state, name)
    assert file is not None, name
    return file


@step
def note_failure(command_id: str, error: str, wait: float) -> None:
    """An attempt failed; there will be another one."""
    s = services()
    command = Commands(s.state).get(command_id)
    Commands(s.state).note(command_id, error=error)
    get().warning(
        "export failed, tried again by itself", file_type=command.file_type,
        deanery=command.deanery, reason=error, seconds=wait,
    )  # fmt: skip


@step
def end_command(command_id: str, state: str, error: str | None) -> str:
    """End the command; a dead one raises an alarm, a done one closes it.

    The alarm comes first: who waits for the command finds it as it is then.
    """
    s = services()
    commands = Commands(s.state)
    command = commands.get(command_id)
    subject = f"{command.file_type} {command.deanery}"
    if state == "done":
        others = [c for c in commands.in_state("dead") if c.deanery == command.deanery]
        if not any(c.file_type == command.file_type for c in others):
            s.alarms.close(DEAD, subject, s.clock())
        commands.end(command_id, "done", s.clock())
        get().info("exported", file=command.file, deanery=command.deanery)
        return state
    s.alarms.raise_(
        DEAD,
        subject,
        f"The {command.file_type} file of {command.deanery} for {command.day} was not exported: "
        f"{error} Its starters are not known to payroll until it is. When that is mended: "
        f"`tis-sync esr dead retry {command.id[:8]}`.",
        s.clock(),
    )
    commands.end(command_id, "dead", s.clock(), error)
    return state


def start(commands: list[Command]) -> None:
    """Queue commands; one that is queued or under way already is left alone."""
    for command in commands:
        with (
            SetWorkflowID(command.workflow_id),
            SetEnqueueOptions(queue_partition_key=command.deanery),
        ):
            DBOS.enqueue_workflow(QUEUE, export, command.id)


def ask_for_day(s: Services, file_type: str, day: date, trigger: str, who: str) -> list[Command]:
    """A command a deanery for a day's export; asked for again, they are the same ones."""
    commands = Commands(s.state)
    return [
        commands.ask(
            file_type=file_type,
            deanery=deanery,
            day=day,
            trigger=trigger,
            who=who,
            now=s.clock(),
            key=f"{file_type}/{deanery}/{day}",
        )
        for deanery in DEANERIES
    ]


@DBOS.workflow(name="tis_sync.esr_export_day")
def export_day(_at: datetime, file_type: str) -> None:
    """The time of a day's export has come: a command a deanery, all at once."""
    start(Commands(services().state).many(ask_commands(file_type)))


@step
def ask_commands(file_type: str) -> list[str]:
    """Ask for today's commands; once a day is often enough, too, to forget what is old."""
    s = services()
    forget(s.state, s.clock(), s.settings.history_days)
    asked = ask_for_day(s, file_type, london_day(s.clock()), "schedule", "schedule")
    return [command.id for command in asked if command.state == "queued"]


@DBOS.workflow(name="tis_sync.esr_generate")
def generate_now(_at: datetime, _context: object) -> None:
    """The time has come to bring the records up to date."""
    refresh_by_schedule()


@step
def refresh_by_schedule() -> None:
    """Bring the records up to date; that TCS is away now is nothing that the next will not mend."""
    s = services()
    try:
        bring_up_to_date(s, trigger="schedule", who="schedule")
    except PASSING as error:
        get().warning("records not generated", reason=str(error))


def schedules(settings: Settings) -> list[ScheduleInput]:
    """The times of the export, Europe/London, and of generation."""
    if not settings.esr:
        return []
    exports: list[ScheduleInput] = [
        {
            "schedule_name": f"tis_sync.esr.{file_type}",
            "workflow_fn": export_day,
            "schedule": f"{at.minute} {at.hour} * * *",
            "context": file_type,
            "cron_timezone": "Europe/London",
            "queue_name": GENERATE_QUEUE,
        }
        for file_type, at in EXPORT_AT.items()
    ]
    return [
        *exports,
        {
            "schedule_name": "tis_sync.esr.generate",
            "workflow_fn": generate_now,
            "schedule": f"*/{settings.esr_generate_minutes} * * * *",
            "context": None,
            "queue_name": GENERATE_QUEUE,
        },
    ]


def adopt_orphans(s: Services) -> None:
    """Queue commands that were asked for by a process that died before it queued them."""
    for command in Commands(s.state).in_state("queued"):
        if s.clock() - command.created_at >= timedelta(seconds=ORPHAN_SECONDS):
            start([command])


REGISTRY.queues[QUEUE] = {"partition_concurrency": 1, "worker_concurrency": COMMANDS_AT_ONCE}
REGISTRY.queues[GENERATE_QUEUE] = {"worker_concurrency": 1}
REGISTRY.schedules.append(schedules)
REGISTRY.heartbeats.append(adopt_orphans)
