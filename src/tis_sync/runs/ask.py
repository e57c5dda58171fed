"""Ask for a run: check what was asked, decide its dates, record it as queued."""

from tis_sync.errors import AlreadyRunningError, UsageError
from tis_sync.jobs.base import AsOf, Job, TableProduct
from tis_sync.runs.days import as_of_for
from tis_sync.runs.run import NIGHT, Options, Run
from tis_sync.runs.services import Services


def ask(
    services: Services,
    job: Job,
    *,
    trigger: str,
    who: str,
    options: Options,
    parent: str | None = None,
    run_id: str | None = None,
) -> Run:
    """Record that a run of a job was asked for; the caller starts it.

    Args:
        services: the servers.
        job: which job.
        trigger: "manual", "schedule", "start", "follow-up" or "night".
        who: the person, or the process.
        options: how.
        parent: the night, or the run that this one follows.
        run_id: see `History.request`.

    Raises:
        UsageError: the options do not fit the job.
        AlreadyRunningError: it has an active run.

    """
    if (
        options.rebuild
        and isinstance(job.product, TableProduct)
        and (job.product.target.columns_only)
    ):
        raise UsageError(
            f"{job.name} corrects one column in place; there is nothing to rebuild. "
            "To look at more records, use --date."
        )
    return services.history.request(
        job.name,
        trigger=trigger,
        who=who,
        as_of=days_of(services, job, options.date),
        options=options,
        now=services.clock(),
        parent=parent,
        run_id=run_id,
    )


def days_of(services: Services, job: Job, text: str | None = None) -> AsOf:
    """The days of a run that is asked for now; `text` is what `--date` said.

    Raises:
        UsageError: the job takes no date, or not this one.

    """
    last = services.history.last_success(job.name)
    return as_of_for(
        job,
        text,
        services.clock(),
        None if last is None else last.as_of,
        services.settings.record_status_date_override,
        services.settings.history_days,
    )


def ask_for_night(
    services: Services, *, trigger: str, who: str, options: Options, run_id: str | None = None
) -> Run:
    """Record that a whole night was asked for; a night that is active is returned instead."""
    try:
        return services.history.request(
            NIGHT,
            trigger=trigger,
            who=who,
            as_of=AsOf.on(services.clock().date()),
            options=options,
            now=services.clock(),
            run_id=run_id,
        )
    except AlreadyRunningError as error:
        if error.run_id is None:
            raise
        return services.history.get(error.run_id)
