"""What can be done by page and by API alike: each recorded in the audit log with its outcome."""

import asyncio
from collections.abc import Collection
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, replace
from datetime import date
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from tis_sync.errors import UsageError
from tis_sync.esr import workflows as exports
from tis_sync.esr.broker import letters
from tis_sync.esr.commands import Command, Commands
from tis_sync.esr.deaneries import london_day
from tis_sync.jobs.base import Job
from tis_sync.jobs.catalogue import job_named
from tis_sync.runs import control
from tis_sync.runs.ask import ask, ask_for_night
from tis_sync.runs.run import NIGHT, Options, Run
from tis_sync.runs.services import Services
from tis_sync.runs.workflows import RUNS_QUEUE, start, start_night
from tis_sync.web.audit import audited
from tis_sync.web.who import Caller

MANUAL = "manual"


def id_of(who: Caller, key: str | None) -> str | None:
    """The id that an idempotency key of a caller stands for: the same request is the same run."""
    return None if key is None else str(uuid5(NAMESPACE_URL, f"tis-sync:{who.name}:{key}"))


def _audited(
    s: Services, who: Caller, action: str, subject: str, detail: dict[str, Any] | None = None
) -> AbstractContextManager[None]:
    return audited(
        s.state, s.clock(), who=who.name, how=who.how, action=action, subject=subject,
        detail=detail,
    )  # fmt: skip


def run_job(s: Services, who: Caller, job: Job, options: Options, key: str | None = None) -> Run:
    """Start a run of a job.

    Raises:
        UsageError: the options do not fit the job, or the key was used otherwise.
        AlreadyRunningError: it has an active run.

    """
    said = {name: value for name, value in asdict(options).items() if name != "follow_ups"}
    said["without follow-ups"] = not options.follow_ups
    with _audited(s, who, "run", job.name, said):
        run_id = id_of(who, key)
        run = ask(s, job, trigger=MANUAL, who=who.name, options=options, run_id=run_id)
        _queue(s, run)
    return run


def run_night(s: Services, who: Caller, options: Options, key: str | None = None) -> Run:
    """Start the night; one that is active is returned instead."""
    with _audited(s, who, "run", NIGHT, {"approve": options.approve}):
        run_id = id_of(who, key)
        run = ask_for_night(s, trigger=MANUAL, who=who.name, options=options, run_id=run_id)
        _queue(s, run)
    return run


def approve(s: Services, who: Caller, run_id: str, key: str | None = None) -> Run:
    """Run again what the guard held, and let its plan through.

    Raises:
        UsageError: there is no such run, or it is not held, or a later one made it pointless.
        AlreadyRunningError: the job has an active run.

    """
    held = s.history.get(run_id)
    if held.state != "held":
        raise UsageError(
            f"Run {held.id[:8]} is {held.state}, not held; there is no plan to let by."
        )
    last = s.history.last(held.job)
    if last is not None and last.id != held.id and not last.is_active:
        raise UsageError(
            f"Run {held.id[:8]} is not the last of {held.job}: run {last.id[:8]} came after it, "
            f"and {last.state}. Look at that one."
        )
    options = replace(held.options, approve=True)
    if held.job == NIGHT:
        return run_night(s, who, options, key)
    return run_job(s, who, job_named(held.job), options, key)


def cancel(s: Services, who: Caller, run_id: str) -> Run:
    """Stop a run, or a night with all its runs."""
    with _audited(s, who, "cancel", run_id):
        return control.cancel(s, run_id)


def resume(s: Services, who: Caller, run_id: str) -> Run:
    """Let a cancelled run go on."""
    with _audited(s, who, "resume", run_id):
        return control.resume(s, run_id)


def pause(s: Services, who: Caller, job: Job, *, on: bool) -> None:
    """Stop a job from starting by itself, or let it again."""
    with _audited(s, who, "pause" if on else "unpause", job.name):
        control.pause_schedule(s, job, pause=on)


def export(
    s: Services,
    who: Caller,
    deaneries: Collection[str],
    file_type: str,
    day: date | None = None,
    *,
    new: bool = False,
    key: str | None = None,
) -> list[Command]:
    """Give export commands.

    Args:
        s: the servers.
        who: who gives them.
        deaneries: their codes.
        file_type: APP, DNC or DNF.
        day: the day of the file; None: today.
        new: take a new number, for what is unsent, though the day has a file.
        key: idempotency key.

    Raises:
        UsageError: the day lies in the future, or the key was used otherwise.

    """
    today = london_day(s.clock())
    day = day or today
    subject = f"{file_type} {' '.join(deaneries)}"
    with _audited(s, who, "export", subject, {"day": day, "new": new}):
        if day > today:
            raise UsageError(f"{day} lies in the future; today is {today} (London).")
        once, commands = id_of(who, key), Commands(s.state)
        known = [] if once is None else commands.with_key([f"{once}/{code}" for code in deaneries])
        if any((c.file_type, c.day, c.new) != (file_type, day, new) for c in known):
            raise UsageError("This idempotency key was used for another request; make a new one.")
        asked = [
            commands.ask(
                file_type=file_type, deanery=code, day=day, trigger=MANUAL, who=who.name,
                now=s.clock(), new=new, key=None if once is None else f"{once}/{code}",
            )
            for code in dict.fromkeys(deaneries)
        ]  # fmt: skip
        _give(s, asked)
    return asked


def retry_command(s: Services, who: Caller, command_id: str) -> Command:
    """Try a dead command again.

    Raises:
        UsageError: there is none of that id, or it is not dead.

    """
    with _audited(s, who, "retry command", command_id):
        revived = Commands(s.state).revive(command_id)
        _give(s, [revived])
    return revived


def retry_all_commands(s: Services, who: Caller) -> list[Command]:
    """Try every dead command again."""
    with _audited(s, who, "retry command", "all"):
        revived: list[Command] = []
        for command in Commands(s.state).in_state("dead"):
            with suppress(UsageError):  # somebody else has just revived it
                revived.append(Commands(s.state).revive(command.id))
        _give(s, revived)
    return revived


def retry_letter(s: Services, who: Caller, letter_id: str) -> None:
    """Send a dead letter again to where it died.

    Raises:
        UsageError: there is none of that id.
        UnreachableError: the broker does not answer.

    """
    with _audited(s, who, "retry letter", letter_id):
        letter = letters.named(s.state, letter_id)
        asyncio.run(letters.send_again(s.settings, s.state, [letter], s.clock()))


def retry_all_letters(s: Services, who: Caller) -> int:
    """Send every dead letter again to where it died; returns how many there were.

    Raises:
        UnreachableError: the broker does not answer.

    """
    with _audited(s, who, "retry letter", "all"):
        waiting = letters.waiting(s.state)
        if waiting:
            asyncio.run(letters.send_again(s.settings, s.state, waiting, s.clock()))
    return len(waiting)


def _queue(s: Services, run: Run) -> None:
    """Have a worker take a run: by this process's own queues where it works, else from outside."""
    night = run.job == NIGHT
    if s.works:
        start_night(run.id) if night else start([run.id])
        return
    name = "tis_sync.run_night" if night else "tis_sync.run_job"
    control.enqueue(s, [control.Work(name, RUNS_QUEUE, run.id, run.id)])


def _give(s: Services, commands: list[Command]) -> None:
    waiting = [command for command in commands if command.state == "queued"]
    if s.works:
        exports.start(waiting)
        return
    control.enqueue(
        s,
        [
            control.Work("tis_sync.esr_export", exports.QUEUE, c.workflow_id, c.id, c.deanery)
            for c in waiting
        ],
    )
