"""Everything that a person or a message can start or change, recorded in the audit log.

The command line, the console, the API and the message consumer call these functions. Nothing else
acts on a request.
"""

import asyncio
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import replace
from datetime import date
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from tis_sync import audit
from tis_sync.audit import Actor, audited
from tis_sync.errors import NotFoundError, TisSyncError, UsageError
from tis_sync.esr import content
from tis_sync.esr.applicants import generations
from tis_sync.esr.applicants.generations import Generation
from tis_sync.esr.calendar import london_day
from tis_sync.esr.content import Erased
from tis_sync.esr.deaneries import FileType, deanery_named, file_type_named
from tis_sync.esr.export.commands import Command, Commands, CommandState
from tis_sync.esr.export.preview import check_day, check_preview, preview
from tis_sync.esr.export.workflow import start_commands
from tis_sync.esr.messaging import dead_letters
from tis_sync.execution import workflow
from tis_sync.execution.workflow import start_night, start_runs
from tis_sync.jobs.base import Job
from tis_sync.jobs.catalogue import job_named
from tis_sync.logs import report
from tis_sync.runs.request import request_night, request_run
from tis_sync.runs.run import NIGHT, Run, RunOptions, RunState, Trigger
from tis_sync.runs.services import Services
from tis_sync.workers import schedule


def run_job(
    s: Services, actor: Actor, job: Job | str, options: RunOptions, key: str | None = None
) -> Run:
    """Start a run of a job.

    Args:
        s: settings, clock and servers.
        actor: who starts it.
        job: the job, or one of its names.
        options: how to run it.
        key: idempotency key; if an actor repeats a request with the same key, the first run is
            returned.

    Raises:
        NotFoundError: there is no such job.
        UsageError: the options do not fit the job, or the key was used for another request.
        AlreadyRunningError: the job has an active run.

    """
    detail = {"options": str(options)} if str(options) else {}
    with _audited(s, actor, "run", _name_of(job), detail):
        run = request_run(
            s,
            _job(job),
            trigger=Trigger.MANUAL,
            requested_by=actor.name,
            options=options,
            run_id=_id_of(actor, key),
        )
        if run.is_active:  # a repeated request returns a run that may have ended long ago
            start_runs(s, [run.id])
    return run


def run_night(s: Services, actor: Actor, options: RunOptions, key: str | None = None) -> Run:
    """Start the night, or return the one that is active. Arguments as for `run_job`."""
    with _audited(s, actor, "run", NIGHT, {"approve": options.approve}):
        run = request_night(
            s,
            trigger=Trigger.MANUAL,
            requested_by=actor.name,
            options=options,
            run_id=_id_of(actor, key),
        )
        if run.is_active:
            start_night(s, run.id)
    return run


def approve(s: Services, actor: Actor, run_id: str, key: str | None = None) -> Run:
    """Run a job whose plan is held again, and apply the plan.

    Raises:
        UsageError: there is no such run, it is not held, or a later run superseded it.
        AlreadyRunningError: the job has an active run.

    """
    with _audited(s, actor, "approve", run_id):
        held = s.history.get(run_id)
        if held.state != RunState.HELD:
            raise UsageError(
                f"Run {held.id[:8]} is {held.state}, not held; there is no plan to approve."
            )
        last = s.history.last_of_same_kind(held.job, held.as_of, past_day=held.past_day)
        if last is not None and last.id != held.id and not last.is_active:
            raise UsageError(
                f"Run {held.id[:8]} is not the last run of {held.job}: run {last.id[:8]} came "
                f"after it and is {last.state}. Check that run instead."
            )
    if held.job == NIGHT:
        return run_night(s, actor, replace(held.options, approve=True, approved_run=held.id), key)
    options = replace(held.options, approve=True, approved_run=held.id)
    return run_job(s, actor, job_named(held.job), options, key)


def cancel(s: Services, actor: Actor, run_id: str) -> Run:
    """Cancel a run, or a night with all its runs."""
    with _audited(s, actor, "cancel", run_id):
        return workflow.cancel(s, run_id)


def resume(s: Services, actor: Actor, run_id: str) -> Run:
    """Resume a cancelled run."""
    with _audited(s, actor, "resume", run_id):
        return workflow.resume(s, run_id)


def pause(s: Services, actor: Actor, job: Job | str) -> Job:
    """Pause the schedule of a job, given the job or one of its names; return the job."""
    with _audited(s, actor, "pause", _name_of(job)):
        schedule.pause(s, found := _job(job))
    return found


def unpause(s: Services, actor: Actor, job: Job | str) -> Job:
    """Unpause the schedule of a job, given the job or one of its names; return the job."""
    with _audited(s, actor, "unpause", _name_of(job)):
        schedule.unpause(s, found := _job(job))
    return found


def export(
    s: Services,
    actor: Actor,
    deaneries: Iterable[str],
    file_type: FileType | str,
    day: date | None = None,
    *,
    new: bool = False,
    previewed: int | None = None,
    key: str | None = None,
    trigger: Trigger = Trigger.MANUAL,
) -> list[Command]:
    """Request the export files of a day.

    Args:
        s: settings, clock and servers.
        actor: who requests them.
        deaneries: deanery codes; repeated codes count once.
        file_type: the type of the files, or one of its names.
        day: the day of the files (Europe/London). None: today.
        new: export what is unsent under a new number, even if the day already has a file.
        previewed: the number of records in the preview that the caller has seen (see
            `tis_sync.esr.export.preview`). Required for another day than today, except in a
            message, whose sender cannot see one.
        key: idempotency key; if an actor repeats a request with the same key, the first commands
            are returned.
        trigger: what requests them.

    Raises:
        UsageError: there is no such deanery or file type, the day is in the future or too long ago,
            or the key was used for another request.
        PreviewNeededError: the day is not today, and the preview was not seen or has changed.

    """
    today = london_day(s.clock())
    given, day = day, day or today
    names = list(dict.fromkeys(deaneries))
    with _audited(s, actor, "export", f"{file_type} {' '.join(names)}", {"day": day, "new": new}):
        codes = list(dict.fromkeys(deanery_named(name) for name in names))
        file_type = file_type_named(file_type)
        check_day(s.settings, day, today)
        prefix, commands = _id_of(actor, key), Commands(s.state)
        known = [] if prefix is None else commands.with_key([f"{prefix}/{c}" for c in codes])
        # A request without a day is still the same request when it is repeated after midnight.
        if any(
            (c.file_type, c.new) != (file_type, new) or (given is not None and c.day != given)
            for c in known
        ):
            raise UsageError("This idempotency key was used for another request; use a new one.")
        # A repeated request was confirmed the first time.
        if day != today and trigger is not Trigger.MESSAGE and not known:
            check_preview(previewed, preview(s, codes, file_type, day, new=new), day)
        requested = [
            commands.request(
                file_type=file_type,
                deanery=code,
                day=day,
                trigger=trigger,
                requested_by=actor.name,
                now=s.clock(),
                new=new,
                key=None if prefix is None else f"{prefix}/{code}",
            )
            for code in codes
        ]
        start_commands(s, requested)
    return requested


def refresh_records(s: Services, actor: Actor) -> Generation:
    """Refresh the records for ESR from TCS."""
    with _audited(s, actor, "refresh records", "all"):
        return generations.refresh_records(s, trigger=Trigger.MANUAL, requested_by=actor.name)


def retry_commands(s: Services, actor: Actor, ids: Collection[str] | None = None) -> list[Command]:
    """Retry dead export commands.

    Args:
        s: settings, clock and servers.
        actor: who retries them.
        ids: ids, or unique prefixes of ids. None: every dead command.

    Raises:
        UsageError: an id matches no command, or one that is not dead.

    """
    commands = Commands(s.state)
    with _audited(s, actor, "retry command", "all" if ids is None else " ".join(ids)):
        revived: list[Command] = []
        if ids is None:
            for command in commands.in_state(CommandState.DEAD):
                with suppress(UsageError):  # someone else has just retried it
                    revived.append(commands.revive(command.id))
        else:
            revived = [commands.revive(command_id) for command_id in ids]
        start_commands(s, revived)
    return revived


def retry_dead_letters(s: Services, actor: Actor, ids: Collection[str] | None = None) -> int:
    """Send dead letters back to the queues in which they died.

    Args:
        s: settings, clock and servers.
        actor: who retries them.
        ids: ids, or unique prefixes of ids. None: every dead letter.

    Returns:
        The number of dead letters sent.

    Raises:
        UsageError: an id matches no dead letter.
        UnreachableError: the broker does not answer, or refuses some of them; the others are sent.

    """
    with _audited(s, actor, "retry dead letter", "all" if ids is None else " ".join(ids)):
        if ids is None:
            found = dead_letters.waiting(s.state)
        else:
            found = [dead_letters.get(s.state, letter_id) for letter_id in ids]
        if found:
            asyncio.run(dead_letters.send_back(s.settings, s.state, found, s.clock()))
    return len(found)


def discard_dead_letters(s: Services, actor: Actor, ids: Collection[str]) -> int:
    """Delete dead letters that nobody needs any more; their content is gone.

    Args:
        s: settings, clock and servers.
        actor: who discards them.
        ids: ids, or unique prefixes of ids.

    Returns:
        The number of dead letters deleted.

    Raises:
        UsageError: an id matches no dead letter; nothing is deleted.

    """
    detail: dict[str, Any] = {}
    with _audited(s, actor, "discard dead letter", " ".join(ids), detail):
        found = [dead_letters.get(s.state, letter_id) for letter_id in ids]
        detail["messages"] = [f"{letter.queue}: {letter.message_id}" for letter in found]
        return dead_letters.discard(s.state, found)


def erase(s: Services, actor: Actor, placements: Sequence[int], texts: Collection[str]) -> Erased:
    """Delete everything that says who one person is; arguments and errors as `content.erase`.

    The texts themselves are not recorded.
    """
    detail: dict[str, Any] = {"texts": len(texts)}
    subject = " ".join(f"placement {one}" for one in placements) or "by text"
    with _audited(s, actor, "erase", subject, detail):
        erased = content.erase(s.state, s.settings.log_file, placements, texts, s.clock())
        s.state.discard_deleted()
        detail |= vars(erased)
    return erased


@contextmanager
def requested(s: Services, actor: Actor, action: str, subject: str) -> Iterator[None]:
    """Record a request that is refused in the block, before any action of this module is called.

    Args:
        s: settings, clock and servers.
        actor: who requests it.
        action: what is requested.
        subject: what it would be done to.

    """
    try:
        yield
    except UsageError as error:
        try:
            audit.record(s.state, s.clock(), actor, action, subject, str(error))
        except TisSyncError as failure:  # nothing was done, so the refusal stands without it
            report("a refused request is not in the audit log", failure, action=action)
        raise


def _job(job: Job | str) -> Job:
    return job if isinstance(job, Job) else job_named(job)


def _name_of(job: Job | str) -> str:
    """The name of a job; whatever was given if there is no such job."""
    try:
        return _job(job).name
    except NotFoundError:
        return str(job)


def _audited(
    s: Services, actor: Actor, action: str, subject: str, detail: dict[str, Any] | None = None
) -> AbstractContextManager[None]:
    return audited(s.state, s.clock(), actor, action, subject, detail)


def _id_of(actor: Actor, key: str | None) -> str | None:
    """Derive an id from an actor and an idempotency key."""
    return None if key is None else str(uuid5(NAMESPACE_URL, f"tis-sync:{actor.name}:{key}"))
