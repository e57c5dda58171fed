"""The export as durable workflows: one for each command, one at a time for each deanery.

    export:  begin -> refresh records -> claim, number and record the file (one transaction)
             -> write it, verified -> report it to TCS -> the records are EXPORTED -> done

A transient failure (a server that is down) is retried after increasing waits. After any other
failure, or after the last attempt, the command is dead: it is listed, it has an alarm, and a single
command retries it. Every step can be repeated safely after a crash.
"""

from datetime import date, datetime, timedelta
from functools import partial
from typing import Any

import polars as pl
from dbos import DBOS

from tis_sync.alarms.catalogue import EXPORT_FAILED
from tis_sync.durable.model import FAILED, MOST_RECOVERIES, UNFINISHED, Queue, Schedule, Workflow
from tis_sync.durable.recorded_step import step
from tis_sync.errors import TisSyncError
from tis_sync.esr.applicants.generations import refresh_records
from tis_sync.esr.calendar import EXPORT_AT, due, london_day
from tis_sync.esr.deaneries import DEANERIES, FileType
from tis_sync.esr.export.commands import Command, Commands, CommandState, workflow_prefix
from tis_sync.esr.export.events import write_events
from tis_sync.esr.export.tcs_events import report_exports
from tis_sync.esr.files import numbering
from tis_sync.esr.files.destination import Destination
from tis_sync.esr.files.store import (
    exported_records,
    file_bytes,
    get_file,
    mark_reported,
    mark_written,
)
from tis_sync.esr.notifications.notification_load import load_missed_days
from tis_sync.esr.notifications.selection import select_notifications
from tis_sync.logs import get
from tis_sync.runs.run import Trigger
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings

EXPORT_QUEUE = "tis_sync_esr"
GENERATE_QUEUE = "tis_sync_esr_generate"
COMMANDS_PER_WORKER = 4  # a command mostly waits for TCS and for the destination
# A command that was requested this long ago and is still queued may have no workflow, because the
# process that requested it has died.
UNSTARTED_SECONDS = 10.0


def export(s: Services, command_id: str) -> CommandState:
    """Carry out one command; return the state in which it ended."""
    for wait in (*retry_waits(s), None):
        try:
            begin(s, command_id)
            refresh(s, command_id)
            name = claim(s, command_id)
            write(s, name)
            report(s, name)
            return end_command(s, command_id, CommandState.DONE, None)
        except TisSyncError as error:
            if wait is None or not error.transient:
                return end_command(s, command_id, CommandState.DEAD, str(error))
            note_failure(s, command_id, str(error), wait)
            DBOS.sleep(wait)
    raise AssertionError


@step
def retry_waits(s: Services) -> list[float]:
    """The waits from the settings; recorded, so that a command keeps those it began with."""
    return list(s.settings.esr_retry_seconds)


@step
def begin(s: Services, command_id: str) -> None:
    """Record that an attempt begins."""
    Commands(s.state).begin(command_id, s.clock())


@step
def refresh(s: Services, command_id: str) -> None:
    """Refresh records or load notifications, unless that was done after the request."""
    command = Commands(s.state).get(command_id)
    if command.file is not None:
        return
    if command.file_type == FileType.APP:
        refresh_records(
            s,
            trigger=Trigger.EXPORT,
            requested_by=command.requested_by,
            since=command.created_at,
        )
    else:
        load_missed_days(s, since=command.created_at)


@step
def claim(s: Services, command_id: str) -> str:
    """Decide which file the command writes, with its number and records; return its name."""
    commands = Commands(s.state)
    command = commands.get(command_id)
    if command.file is not None:
        return command.file
    is_scheduled = command.trigger in {Trigger.SCHEDULE, Trigger.CATCH_UP}
    is_applicants = command.file_type == FileType.APP
    file = numbering.claim(
        s.state,
        command_id=command.id,
        file_type=command.file_type,
        deanery=command.deanery,
        day=command.day,
        now=s.clock(),
        new=command.new or command.file_type == FileType.DNF,
        made_before=due(command.file_type, command.day) if is_scheduled else None,
        last_number=s.settings.esr_last_numbers.get(command.file_type, 0),
        rows=None if is_applicants else _notifications(s, command),
    )
    commands.note(command_id, file=file.name)
    return file.name


def _notifications(s: Services, command: Command) -> pl.DataFrame:
    return select_notifications(
        s.state,
        s.tcs(),
        command.deanery,
        s.settings.esr_deaneries,
        s.settings.esr_notifications_since,
        london_day(s.clock()),
        full=command.file_type == FileType.DNF,
    )


@step
def write(s: Services, name: str) -> None:
    """Write the file to its destination, with the same bytes every time."""
    file = get_file(s.state, name)
    data = file_bytes(s.state, s.settings, file)
    Destination(s.settings.export(), s.settings.export_options).put(name, data)
    mark_written(s.state, file, data, s.clock())


@step
def report(s: Services, name: str) -> None:
    """Report the exports to TCS; only then are the records EXPORTED."""
    file = get_file(s.state, name)
    if file.reported_at is not None:
        return
    if file.file_type == FileType.APP:
        assert file.written_at is not None
        report_exports(s.tcs(), file, exported_records(s.state, file), file.written_at)
    now = s.clock()
    events = None if s.settings.broker_url is None else partial(write_events, file=file)
    mark_reported(s.state, file, now, events)


@step
def note_failure(s: Services, command_id: str, error: str, wait: float) -> None:
    """Record that an attempt failed, and that another will follow."""
    command = Commands(s.state).get(command_id)
    Commands(s.state).note(command_id, error=error)
    get().warning(
        "export failed; it will be retried",
        file_type=command.file_type,
        deanery=command.deanery,
        reason=error,
        seconds=wait,
    )


@step
def end_command(
    s: Services, command_id: str, state: CommandState, error: str | None
) -> CommandState:
    """End the command: a dead command opens an alarm, and a successful one closes it.

    The alarm comes first, so that anyone waiting for the command finds the alarm up to date.
    """
    commands = Commands(s.state)
    command = commands.get(command_id)
    subject = _subject(command)
    if state == CommandState.DONE:
        dead = [other for other in commands.in_state(CommandState.DEAD) if other.id != command_id]
        others = [other for other in dead if _subject(other) == subject]
        if others:  # the alarm is now about another command
            _open_alarm(s, others[-1], others[-1].error)
        else:
            s.alarms.close(EXPORT_FAILED, subject, s.clock())
        commands.end(command_id, state, s.clock())
        get().info("exported", file=command.file, deanery=command.deanery)
        return state
    _open_alarm(s, command, error)
    commands.end(command_id, state, s.clock(), error)
    return state


def _subject(command: Command) -> str:
    """The subject of the alarm about a command."""
    return f"{command.file_type} {command.deanery}"


def _open_alarm(s: Services, command: Command, error: str | None) -> None:
    details = (
        f"The {command.file_type} file of {command.deanery} for {command.day} was not exported: "
        f"{error}"
    )
    s.alarms.open(EXPORT_FAILED, _subject(command), details, s.clock(), command=command.id[:8])


def export_day(s: Services, _at: datetime, file_type: str) -> None:
    """Export the files of a day at their scheduled time: one command for each deanery."""
    start_commands(s, Commands(s.state).many(request_commands(s, file_type)))


@step
def request_commands(s: Services, file_type: str) -> list[str]:
    """Request today's commands; return the ids of those that are queued."""
    commands = request_day(
        s, FileType(file_type), london_day(s.clock()), Trigger.SCHEDULE, Trigger.SCHEDULE
    )
    return [command.id for command in commands if command.state == CommandState.QUEUED]


def generate_scheduled(s: Services, _at: datetime, _context: Any) -> None:
    """Refresh the records at the scheduled time."""
    refresh_scheduled(s)


@step
def refresh_scheduled(s: Services) -> None:
    """Refresh the records. A transient failure is only logged: the next refresh catches up."""
    try:
        refresh_records(s, trigger=Trigger.SCHEDULE, requested_by=Trigger.SCHEDULE)
    except TisSyncError as error:
        if not error.transient:
            raise
        get().warning("records not refreshed", reason=str(error))


EXPORT = Workflow("tis_sync.esr_export", export, EXPORT_QUEUE)
EXPORT_DAY = Workflow("tis_sync.esr_export_day", export_day, GENERATE_QUEUE)
GENERATE = Workflow("tis_sync.esr_generate", generate_scheduled, GENERATE_QUEUE)
WORKFLOWS = (EXPORT, EXPORT_DAY, GENERATE)
QUEUES = (
    Queue(EXPORT_QUEUE, COMMANDS_PER_WORKER, per_partition=1),
    Queue(GENERATE_QUEUE, 1),
)


def schedules(settings: Settings) -> list[Schedule]:
    """The schedules of the exports (Europe/London) and of the generations."""
    if not settings.esr:
        return []
    exports = [
        Schedule(
            f"tis_sync.esr.{file_type}",
            EXPORT_DAY,
            f"{at.minute} {at.hour} * * *",
            file_type.value,
            "Europe/London",
        )
        for file_type, at in EXPORT_AT.items()
    ]
    every = f"*/{settings.esr_generate_minutes} * * * *"
    return [*exports, Schedule("tis_sync.esr.generate", GENERATE, every, None)]


def start_commands(s: Services, commands: list[Command]) -> None:
    """Have queued commands carried out; commands that have already started are left alone."""
    for command in commands:
        if command.state == CommandState.QUEUED:
            s.enqueue(
                EXPORT,
                command.id,
                workflow_id=command.workflow_id,
                partition=command.deanery,
            )


def request_day(
    s: Services, file_type: FileType, day: date, trigger: Trigger, requested_by: str
) -> list[Command]:
    """Request one command for each deanery; a repeated request returns the same commands.

    Args:
        s: settings, clock and servers.
        file_type: the type of the files.
        day: the day of the export.
        trigger: what requests it.
        requested_by: the person or the process.

    """
    commands = Commands(s.state)
    return [
        commands.request(
            file_type=file_type,
            deanery=deanery,
            day=day,
            trigger=trigger,
            requested_by=requested_by,
            now=s.clock(),
            key=f"{file_type}/{deanery}/{day}",
        )
        for deanery in DEANERIES
    ]


def recover_commands(s: Services) -> None:
    """Start commands that were never queued; begin or end those whose workflow has ended.

    A process that dies between two statements can leave either behind. A workflow ends before its
    command if the state database is away for long.
    """
    for command in Commands(s.state).in_state(CommandState.QUEUED, CommandState.RUNNING):
        if s.clock() - command.created_at >= timedelta(seconds=UNSTARTED_SECONDS):
            _recover(s, command.id)


def _recover(s: Services, command_id: str) -> None:
    workflows = DBOS.list_workflows(
        workflow_id_prefix=workflow_prefix(command_id), load_input=False, load_output=False
    )
    if any(workflow.status in UNFINISHED for workflow in workflows):
        return
    commands = Commands(s.state)
    command = commands.get(command_id)  # asked now, because it ends before its workflow does
    if command.state not in {CommandState.QUEUED, CommandState.RUNNING}:
        return
    known = {workflow.workflow_id for workflow in workflows}
    failed = [workflow for workflow in workflows if workflow.status == FAILED]
    if command.state == CommandState.QUEUED and command.workflow_id not in known:
        start_commands(s, [command])
    elif failed and len(failed) <= MOST_RECOVERIES:
        again = commands.begin_again(command)
        if again is not None:
            get().warning("export begins again", command=command.id[:8], deanery=command.deanery)
            start_commands(s, [again])
    else:
        error = "its workflow ended before the command did"
        end_command(s, command_id, CommandState.DEAD, error)
