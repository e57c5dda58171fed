"""Request a run: check its options, determine its days, and record it as queued."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from uuid import UUID, uuid5

from tis_sync.errors import AlreadyRunningError, NotFoundError, UsageError
from tis_sync.iso_day import FORM, iso_day
from tis_sync.jobs.base import AsOf, Job, TableTarget
from tis_sync.jobs.catalogue import JOBS
from tis_sync.jobs.person_status import PERSON_RECORD_STATUS
from tis_sync.runs.run import (
    NIGHT,
    Rerun,
    Run,
    RunOptions,
    RunState,
    Trigger,
    is_past_day,
)
from tis_sync.runs.services import Services


def request_run(
    services: Services,
    job: Job,
    *,
    trigger: Trigger,
    requested_by: str,
    options: RunOptions,
    parent: str | None = None,
    run_id: str | None = None,
) -> Run:
    """Record the request for a run of a job; the caller then starts it.

    Args:
        services: settings, clock and servers.
        job: the job.
        trigger: what requested it.
        requested_by: the person or the process.
        options: how to run it.
        parent: the night, or the run that this one follows.
        run_id: see `History.request`.

    Raises:
        UsageError: the options do not fit the job, or there is no held plan to approve.
        AlreadyRunningError: the job has an active run.

    """
    if options.rebuild and isinstance(job.target, TableTarget) and job.target.spec.columns_only:
        raise UsageError(
            f"{job.name} only corrects one column, so there is nothing to rebuild. "
            "To include more records, use --date."
        )
    as_of = days_of(services, job, options.date)
    return services.history.request(
        job.name,
        trigger=trigger,
        requested_by=requested_by,
        as_of=as_of,
        options=_with_approved_run(services, job, options, as_of, run_id),
        now=services.clock(),
        parent=parent,
        run_id=run_id,
    )


def request_child(
    services: Services,
    job: Job,
    parent: Run,
    trigger: Trigger,
    approved_run: str | None = None,
) -> bool:
    """Request the run of a job that belongs to a night, or follows a run.

    However often this is repeated, and by however many processes, there is one such run. If the job
    is active, the run is queued when the active one ends.

    Args:
        services: settings, clock and servers.
        job: the job.
        parent: the night, or the run that it follows.
        trigger: NIGHT or FOLLOW_UP.
        approved_run: the held run whose plan it applies.

    Returns:
        False if the active run has just ended: then try again.

    """
    try:
        request_run(
            services,
            job,
            trigger=trigger,
            requested_by=parent.requested_by,
            options=RunOptions(approve=approved_run is not None, approved_run=approved_run),
            parent=parent.id,
            run_id=str(uuid5(UUID(parent.id), f"{job.name} {parent.restarts}")),
        )
    except AlreadyRunningError as error:
        if error.run_id is None:
            return False
        night = parent.id if trigger == Trigger.NIGHT else None
        if night is not None and services.history.get(error.run_id).parent == night:
            return True  # it is that run, queued at the end of another one
        rerun = Rerun(trigger, parent.requested_by, night, approved_run)
        return services.history.request_rerun(error.run_id, rerun)
    return True


def request_night(
    services: Services,
    *,
    trigger: Trigger,
    requested_by: str,
    options: RunOptions,
    run_id: str | None = None,
) -> Run:
    """Record the request for a whole night, or return the night that is active."""
    try:
        return services.history.request(
            NIGHT,
            trigger=trigger,
            requested_by=requested_by,
            as_of=AsOf.on(services.clock().date()),
            options=options,
            now=services.clock(),
            run_id=run_id,
        )
    except AlreadyRunningError as error:
        if error.run_id is None:
            raise
        return services.history.get(error.run_id)


def _with_approved_run(
    services: Services, job: Job, options: RunOptions, as_of: AsOf, run_id: str | None
) -> RunOptions:
    """Determine which held plan is approved, so that the approval covers no other plan."""
    if not options.approve or options.approved_run is not None:
        return options
    past_day = is_past_day(options, as_of)
    last = services.history.last_of_same_kind(job.name, as_of, past_day=past_day)
    if last is not None and last.state == RunState.HELD:
        return replace(options, approved_run=last.id)
    if run_id is not None:
        try:  # a repeated request: by now its own run is the last one
            return services.history.get(run_id).options
        except NotFoundError:
            pass
    raise UsageError(
        f"{job.name} has no held plan to approve. Run it without approval first; if its plan is "
        "held, examine it and then approve it."
    )


def days_of(services: Services, job: Job, text: str | None = None) -> AsOf:
    """Determine the days of a run that is requested now.

    Args:
        services: settings, clock and servers.
        job: the job.
        text: the value of `--date`. None: it was not given.

    Raises:
        UsageError: the job takes no date, or does not accept this one.

    """
    return as_of_for(
        job,
        text,
        services.clock(),
        services.history.covered_until(job.name),
        services.settings.record_status_date_override,
        services.settings.history_days,
    )


def as_of_for(
    job: Job,
    text: str | None,
    now: datetime,
    covered_until: date | None,
    override: str,
    longest_days: int,
) -> AsOf:
    """Determine the days of a run.

    Args:
        job: the job.
        text: the value of `--date`. None: it was not given.
        now: the current time.
        covered_until: the day up to which the job has covered every day. None: it never succeeded.
        override: what NONE means: the setting `record_status_date_override`.
        longest_days: the maximum number of days that are caught up on.

    Returns:
        For a dated job without `text`, every day that is not covered, up to today, or only today if
        the job has never succeeded. For other jobs, today.

    Raises:
        UsageError: the job takes no date, or the text does not have an accepted form.

    """
    today = now.astimezone(UTC).date()
    if text is None:
        if not job.dated or covered_until is None:
            return AsOf.on(today)
        first = min(today, covered_until + timedelta(days=1))
        return AsOf(today, max(first, today - timedelta(days=longest_days)), today)
    if not job.dated:
        dated = " and ".join(other.name for other in JOBS if other.dated)
        raise UsageError(
            f"{job.name} takes no --date, because it always derives today's state. Only {dated} "
            "take one."
        )
    words: Mapping[str, str] = {"any": "ANY", "none": "NONE"}
    word = words.get(text.strip().lower())
    if word is not None and job is not PERSON_RECORD_STATUS:
        raise UsageError(f"--date {text}: {job.name} takes a date of the form {FORM}.")
    if word == "NONE":
        if override.upper() == "NONE":
            return AsOf.on(today)
        return as_of_for(job, override, now, covered_until, "NONE", longest_days)
    if word == "ANY":
        return AsOf(today, today, today, every=True)
    day = _day(text, job)
    if day > today:
        raise UsageError(f"--date {text} is in the future; today is {today} (UTC).")
    return AsOf(today, day, day)


def _day(text: str, job: Job) -> date:
    try:
        return iso_day(text)
    except ValueError:
        forms = f"{FORM}, ANY, NONE" if job is PERSON_RECORD_STATUS else FORM
        raise UsageError(
            f"--date {text!r} is not a date; the accepted forms are {forms}."
        ) from None
