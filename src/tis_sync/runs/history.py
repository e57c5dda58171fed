"""The history: the record of every run, from its request to its end.

A run is active while it is queued or running. A job has at most one active run; the database
enforces this across processes and machines (`run.active_job` is unique).
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from json import dumps
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from tis_sync.db.database import Database
from tis_sync.errors import AlreadyRunningError, NotFoundError, UsageError
from tis_sync.jobs.base import AsOf
from tis_sync.runs.run import (
    LogLine,
    Phase,
    Run,
    RunDetail,
    RunOptions,
    RunState,
    Trigger,
    queued_row,
    run_from_row,
)
from tis_sync.state import tables as t
from tis_sync.tcs.source import SetAside

SET_ASIDE_KEPT = 1000  # set-aside records that one run names; all of them are counted


class History:
    """The runs in a state database.

    Args:
        state: the state database.

    """

    def __init__(self, state: Database) -> None:
        self._state = state

    def request(
        self,
        job: str,
        *,
        trigger: Trigger,
        requested_by: str,
        as_of: AsOf,
        options: RunOptions,
        now: datetime,
        parent: str | None = None,
        run_id: str | None = None,
    ) -> Run:
        """Record the request for a run, in the state QUEUED.

        Args:
            job: the name of the job, or of the night.
            trigger: what requested it.
            requested_by: the person or the process.
            as_of: the days that it covers.
            options: how to run it.
            now: the current time.
            parent: the night, or the run that this one follows.
            run_id: an id derived from an idempotency key: a repeated request returns the same run.
                None: a new id.

        Raises:
            AlreadyRunningError: the job has an active run; the error names it.
            UsageError: the id was used for another request.

        """
        values = queued_row(job, trigger, requested_by, as_of, options, now, parent)
        values["id"] = run_id or values["id"]
        try:
            with self._state.write() as connection:
                connection.execute(sa.insert(t.run).values(values))
        except IntegrityError:
            for known in self._runs(sa.select(t.run).where(t.run.c.id == run_id)):
                if (known.job, known.options) == (job, options):
                    return known
                raise UsageError(
                    "This idempotency key was used for another request; use a new one."
                ) from None
            active = self.active(job)
            raise AlreadyRunningError(
                f"Already running: {job}" + (f", run {active.id[:8]}" if active else ""),
                active.id if active else None,
            ) from None
        return self.get(values["id"])

    def request_rerun(self, run_id: str) -> bool:
        """Have a run of the same job follow this active run; False if it has already ended."""
        with self._state.write() as connection:
            result = connection.execute(
                sa.update(t.run)
                .where(t.run.c.id == run_id, t.run.c.active_job.is_not(None))
                .values(rerun_requested=True)
            )
        return bool(result.rowcount)

    def begin(self, run_id: str, now: datetime) -> Run:
        """Record that the run starts, or is resumed after a crash; a cancelled run stays so."""
        with self._state.write() as connection:
            connection.execute(
                sa.update(t.run)
                .where(t.run.c.id == run_id, t.run.c.state == RunState.QUEUED)
                .values(state=RunState.RUNNING, started_at=now)
            )
        return self.get(run_id)

    def enter_phase(
        self, run_id: str, phase: Phase, now: datetime, partitions: int | None = None
    ) -> None:
        """Record that the run enters a phase with this number of partitions."""
        with self._state.write() as connection:
            number = sa.select(sa.func.count() + 1).where(t.run_phase.c.run_id == run_id)
            connection.execute(
                sa.insert(t.run_phase).values(
                    run_id=run_id, number=number.scalar_subquery(), name=phase, started_at=now
                )
            )
            connection.execute(
                sa.update(t.run)
                .where(t.run.c.id == run_id)
                .values(phase=phase, partitions=partitions, partitions_done=0)
            )

    def partition_done(self, run_id: str) -> None:
        """Record that one more partition of the phase is done; for progress bars only."""
        with self._state.write() as connection:
            connection.execute(
                sa.update(t.run)
                .where(t.run.c.id == run_id)
                .values(partitions_done=t.run.c.partitions_done + 1)
            )

    def note(self, run_id: str, *, detail: RunDetail | None = None, **counts: int) -> None:
        """Record counts (columns of the table `run`) and details."""
        values: dict[str, Any] = dict(counts)
        if detail is not None:
            values["detail"] = dumps(asdict(detail), default=str)
        with self._state.write() as connection:
            connection.execute(sa.update(t.run).where(t.run.c.id == run_id).values(**values))

    def end(
        self,
        run_id: str,
        state: RunState,
        now: datetime,
        error: str | None = None,
        rerun_as_of: AsOf | None = None,
    ) -> None:
        """End the run; if a rerun was requested in the meantime (`request_rerun`), queue it.

        Both happen in one transaction, so that anyone waiting for everything that follows a run
        misses nothing. A run that has already ended, such as a cancelled one, stays as it is.

        Args:
            run_id: the run.
            state: how it ended.
            now: the current time.
            error: why it did not succeed.
            rerun_as_of: the days that the rerun covers. None: no rerun is queued.

        """
        ended = (
            sa.update(t.run)
            .where(t.run.c.id == run_id, t.run.c.active_job.is_not(None))
            .values(state=state, active_job=None, finished_at=now, error=error)
        )
        with self._state.write() as connection:
            if not connection.execute(ended).rowcount or rerun_as_of is None:
                return
            run = connection.execute(sa.select(t.run).where(t.run.c.id == run_id)).one()
            if run.rerun_requested:
                values = queued_row(
                    run.job,
                    Trigger.FOLLOW_UP,
                    run.requested_by,
                    rerun_as_of,
                    RunOptions(),
                    now,
                    run_id,
                )
                connection.execute(sa.insert(t.run).values(values))

    def reopen(self, run_id: str) -> Run:
        """Queue a cancelled run again, to be resumed.

        Raises:
            UsageError: it was not cancelled.
            AlreadyRunningError: another run of the job is active.

        """
        run = self.get(run_id)
        if run.state != RunState.CANCELLED:
            raise UsageError(
                f"Run {run.id[:8]} is {run.state}; only a cancelled run can be resumed. "
                f"Start a new one: `tis-sync run {run.job}`."
            )
        try:
            with self._state.write() as connection:
                connection.execute(
                    sa.update(t.run)
                    .where(t.run.c.id == run_id)
                    .values(state=RunState.QUEUED, active_job=run.job, finished_at=None, error=None)
                )
        except IntegrityError:
            raise AlreadyRunningError(f"Already running: {run.job}") from None
        return self.get(run_id)

    def get(self, run_id: str) -> Run:
        """Find a run by its id, or by a unique prefix of it.

        Raises:
            NotFoundError: there is no such run.
            UsageError: several runs match.

        """
        statement = sa.select(t.run).where(t.run.c.id.startswith(run_id, autoescape=True)).limit(2)
        found = self._runs(statement)
        if not found:
            raise NotFoundError(f"There is no run {run_id!r}; `tis-sync history` lists them.")
        if len(found) > 1:
            raise UsageError(f"Several runs start with {run_id!r}; give more characters of the id.")
        return found[0]

    def active(self, job: str) -> Run | None:
        """The active run of a job, or None."""
        found = self._runs(sa.select(t.run).where(t.run.c.active_job == job))
        return found[0] if found else None

    def all_active(self, jobs: Collection[str] | None = None) -> list[Run]:
        """All active runs, or those of the given jobs."""
        statement = sa.select(t.run).where(t.run.c.active_job.is_not(None))
        if jobs is not None:
            statement = statement.where(t.run.c.active_job.in_(jobs))
        return self._runs(statement)

    def many(self, run_ids: Sequence[str]) -> list[Run]:
        """Runs by their full ids, in the order of the ids."""
        found = {run.id: run for run in self._runs(sa.select(t.run).where(t.run.c.id.in_(run_ids)))}
        return [found[run_id] for run_id in run_ids]

    def family(self, run_id: str) -> list[Run]:
        """A run, the runs that it requested, and those that they requested, oldest first."""
        ids = sa.select(t.run.c.id).where(t.run.c.id == run_id).cte(recursive=True)
        ids = ids.union(sa.select(t.run.c.id).join(ids, t.run.c.parent == ids.c.id))
        return self._runs(
            sa.select(t.run)
            .where(t.run.c.id.in_(sa.select(ids.c.id)))
            .order_by(t.run.c.id != run_id, t.run.c.created_at)
        )

    def children(self, run_id: str) -> list[Run]:
        """The runs that a night, or another run, requested."""
        return self._runs(
            sa.select(t.run).where(t.run.c.parent == run_id).order_by(t.run.c.created_at)
        )

    def recent(
        self,
        limit: int = 20,
        job: str | None = None,
        states: Sequence[RunState] = (),
        *,
        dry_runs: bool = True,
        before: str | None = None,
    ) -> list[Run]:
        """The latest runs, newest first.

        Args:
            limit: the maximum number.
            job: only runs of this job.
            states: only runs in one of these states. Empty: any state.
            dry_runs: whether dry runs are included.
            before: only runs older than the one with this id.

        """
        statement = sa.select(t.run).order_by(t.run.c.created_at.desc(), t.run.c.id).limit(limit)
        if before is not None:
            last = self.get(before)
            moment = sa.literal(last.created_at, t.run.c.created_at.type)
            statement = statement.where(
                sa.or_(
                    t.run.c.created_at < moment,
                    sa.and_(t.run.c.created_at == moment, t.run.c.id > last.id),
                )
            )
        if job is not None:
            statement = statement.where(t.run.c.job == job)
        if states:
            statement = statement.where(t.run.c.state.in_(states))
        if not dry_runs:
            statement = statement.where(~t.run.c.dry_run)
        return self._runs(statement)

    def since(self, moment: datetime) -> list[Run]:
        """All active runs, and those requested since a point in time, newest first."""
        recent = t.run.c.created_at >= sa.literal(moment, t.run.c.created_at.type)
        statement = sa.select(t.run).where(sa.or_(recent, t.run.c.active_job.is_not(None)))
        return self._runs(statement.order_by(t.run.c.created_at.desc(), t.run.c.id))

    def last(self, job: str) -> Run | None:
        """The newest run of a job that was not a dry run."""
        return next(iter(self._real(job, (), 1)), None)

    def last_success(self, job: str) -> Run | None:
        """The newest run of a job that succeeded and was not a dry run."""
        return next(iter(self._real(job, (RunState.SUCCEEDED,), 1)), None)

    def last_successes(self, jobs: Collection[str]) -> list[Run]:
        """For each job, the newest run that succeeded and was not a dry run."""
        newest = sa.func.row_number().over(
            partition_by=t.run.c.job, order_by=(t.run.c.created_at.desc(), t.run.c.id)
        )
        real = sa.select(t.run.c.id, newest.label("place")).where(
            t.run.c.job.in_(jobs), t.run.c.state == RunState.SUCCEEDED, ~t.run.c.dry_run
        )
        ranked = real.subquery()
        first = sa.select(ranked.c.id).where(ranked.c.place == 1)
        return self._runs(sa.select(t.run).where(t.run.c.id.in_(first)))

    def successes(self, job: str, limit: int) -> list[Run]:
        """The last runs of a job that succeeded and were not dry runs, newest first."""
        return self._real(job, (RunState.SUCCEEDED,), limit)

    def _real(self, job: str, states: Sequence[RunState], limit: int) -> list[Run]:
        return self.recent(limit, job, states, dry_runs=False)

    def phases(self, run_id: str) -> list[tuple[str, datetime]]:
        """The phases that a run has entered, and when."""
        statement = (
            sa.select(t.run_phase.c.name, t.run_phase.c.started_at)
            .where(t.run_phase.c.run_id == run_id)
            .order_by(t.run_phase.c.number)
        )
        with self._state.read() as connection:
            return [(row.name, row.started_at) for row in connection.execute(statement)]

    def log(self, run_id: str, at: datetime, level: str, text: str) -> None:
        """Add a line to a run's log."""
        with self._state.write() as connection:
            connection.execute(
                sa.insert(t.run_log).values(run_id=run_id, at=at, level=level, text=text)
            )

    def lines(self, run_id: str, after: int = 0) -> list[LogLine]:
        """The log lines of a run whose id is greater than `after`."""
        statement = (
            sa.select(t.run_log)
            .where(t.run_log.c.run_id == run_id, t.run_log.c.id > after)
            .order_by(t.run_log.c.id)
        )
        with self._state.read() as connection:
            return [
                LogLine(row.id, row.at, row.level, row.text)
                for row in connection.execute(statement)
            ]

    def add_set_aside(self, run_id: str, records: Iterable[SetAside]) -> None:
        """Add records that a run could not use; none is named twice."""
        known = set(self.set_aside(run_id))
        new = [(r.table, r.key, str(r)) for r in dict.fromkeys(records)]
        rows = [
            {"run_id": run_id, "table_name": table, "record_key": key[:200], "reason": reason}
            for table, key, reason in new
            if reason not in known
        ][: max(0, SET_ASIDE_KEPT - len(known))]
        if rows:
            with self._state.write() as connection:
                connection.execute(sa.insert(t.set_aside), rows)

    def set_aside(self, run_id: str) -> list[str]:
        """The records that a run could not use, one line each."""
        statement = (
            sa.select(t.set_aside.c.reason)
            .where(t.set_aside.c.run_id == run_id)
            .order_by(t.set_aside.c.id)
        )
        with self._state.read() as connection:
            return list(connection.scalars(statement))

    def prune(self, now: datetime, days: int) -> int:
        """Delete runs older than this many days, except the last success of each job.

        Returns:
            The number of runs deleted.

        """
        kept = [run.id for job in self._jobs() if (run := self.last_success(job)) is not None]
        old = sa.select(t.run.c.id).where(
            t.run.c.created_at < now - timedelta(days=days),
            t.run.c.active_job.is_(None),
            t.run.c.id.not_in(kept),
        )
        with self._state.write() as connection:
            for table in (t.run_phase, t.run_log, t.set_aside):
                connection.execute(sa.delete(table).where(table.c.run_id.in_(old)))
            return int(connection.execute(sa.delete(t.run).where(t.run.c.id.in_(old))).rowcount)

    def _jobs(self) -> list[str]:
        with self._state.read() as connection:
            return list(connection.scalars(sa.select(t.run.c.job).distinct()))

    def _runs(self, statement: sa.Select[Any]) -> list[Run]:
        with self._state.read() as connection:
            rows = connection.execute(statement).mappings().all()
        return [run_from_row(dict(row)) for row in rows]
