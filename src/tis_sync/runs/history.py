"""The history: the record of every run, from its request to its end.

A run is active while it is queued or running. A job has at most one active run; the database
enforces this across processes and machines (`run.active_job` is unique). Dry runs do not count.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from json import dumps, loads
from typing import Any
from uuid import UUID, uuid5

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from tis_sync.errors import AlreadyRunningError, UsageError
from tis_sync.jobs.base import AsOf
from tis_sync.runs.run import (
    Phase,
    Rerun,
    Run,
    RunDetail,
    RunOptions,
    RunState,
    Trigger,
    as_of_json,
    queued_row,
    run_from_row,
)
from tis_sync.runs.run_queries import ACTIVE, IS_ACTIVE, RunQueries
from tis_sync.state import tables as t
from tis_sync.state.clock import current_time
from tis_sync.tcs.fit import SetAside

SET_ASIDE_KEPT = 1000  # set-aside records that one run names; all of them are counted
# A later request for a rerun replaces one of a trigger further to the left.
RERUN_TRIGGERS = (Trigger.FOLLOW_UP, Trigger.SCHEDULE, Trigger.NIGHT)


class History(RunQueries):
    """Records the runs in a state database, and reads them.

    Args:
        state: the state database.

    """

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
                same = replace(known.options, approved_run=options.approved_run)
                if (known.job, same) == (job, options) or (parent and known.parent == parent):
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

    def request_rerun(self, run_id: str, rerun: Rerun) -> bool:
        """Have a run of the same job follow this active run; False if it has already ended.

        Several requests lead to one rerun: that of a night rather than that of a schedule, and that
        of a schedule rather than a follow-up.
        """
        with self._state.write() as connection:
            found = connection.execute(
                sa.select(t.run.c.rerun).where(t.run.c.id == run_id, IS_ACTIVE).with_for_update()
            ).one_or_none()
            if found is None:
                return False
            known = None if found.rerun is None else _rerun_from_json(found.rerun)
            if known is None or _rank(known) <= _rank(rerun):
                connection.execute(
                    sa.update(t.run).where(t.run.c.id == run_id).values(rerun=dumps(asdict(rerun)))
                )
        return True

    def begin(self, run_id: str, now: datetime) -> Run:
        """Record that the run starts, continues after a wait, or is resumed after a crash.

        A run that has ended stays as it is.
        """
        since = current_time(self._state.dialect, process_clock=lambda: now)
        own = t.run.c.id == run_id
        with self._state.write() as connection:
            connection.execute(
                sa.update(t.run)
                .where(own, t.run.c.state == RunState.QUEUED)
                .values(state=RunState.RUNNING, started_at=now, working_since=since)
            )
            connection.execute(
                sa.update(t.run)
                .where(own, t.run.c.state == RunState.RUNNING, t.run.c.working_since.is_(None))
                .values(working_since=since)
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

    def add_sample(
        self, run_id: str, sample: Mapping[str, list[dict[str, Any]]], limit: int
    ) -> None:
        """Add records of a dry run to its details, up to a number for each kind.

        Repeating this changes nothing. The records may contain personal data, so they are only kept
        here, and not in DBOS's tables.
        """
        statement = sa.select(t.run).where(t.run.c.id == run_id).with_for_update()
        with self._state.write() as connection:
            run = run_from_row(dict(connection.execute(statement).mappings().one()))
            kept = {kind: list(rows) for kind, rows in run.detail.sample.items()}
            for kind, rows in loads(dumps(sample, default=str)).items():
                known = kept.setdefault(kind, [])
                known += [row for row in rows if row not in known][: max(0, limit - len(known))]
            detail = dumps(asdict(replace(run.detail, sample=kept)), default=str)
            connection.execute(sa.update(t.run).where(t.run.c.id == run_id).values(detail=detail))

    def end(
        self,
        run_id: str,
        state: RunState,
        now: datetime,
        error: str | None = None,
        rerun_as_of: AsOf | None = None,
    ) -> str | None:
        """End the run; if a rerun was requested in the meantime (`request_rerun`), queue it.

        Both happen in one transaction, so that anyone waiting for everything that follows a run
        misses nothing. A run that has already ended, such as a cancelled one, stays as it is.

        Args:
            run_id: the run.
            state: how it ended.
            now: the current time.
            error: why it did not succeed.
            rerun_as_of: the days that the rerun covers. None: no rerun is queued.

        Returns:
            The id of the rerun, also if the run had already ended. None: there is no rerun.

        """
        with self._state.write() as connection:
            run = connection.execute(
                sa.select(t.run).where(t.run.c.id == run_id).with_for_update()
            ).one()
            rerun_id = str(uuid5(UUID(run_id), f"rerun {run.restarts}"))
            if run.state not in ACTIVE:
                known = sa.select(t.run.c.id).where(t.run.c.id == rerun_id)
                return connection.scalar(known)
            connection.execute(
                sa.update(t.run)
                .where(t.run.c.id == run_id)
                .values(state=state, active_job=None, finished_at=now, error=error)
            )
            if state == RunState.SUCCEEDED and not run.dry_run:
                _cover(connection, run_from_row(dict(run._mapping)))
            if run.rerun is None or rerun_as_of is None:
                return None
            rerun = _of_living_parent(connection, _rerun_from_json(run.rerun))
            values = queued_row(
                run.job,
                rerun.trigger,
                rerun.requested_by,
                rerun_as_of,
                RunOptions(approve=rerun.approved_run is not None, approved_run=rerun.approved_run),
                now,
                rerun.parent or run_id,
            )
            connection.execute(sa.insert(t.run).values(values | {"id": rerun_id}))
        return rerun_id

    def reopen(self, run_id: str, as_of: AsOf) -> Run:
        """Queue a cancelled run again, with a new workflow and a new build.

        Args:
            run_id: the run.
            as_of: the days that it covers now.

        Raises:
            UsageError: it was not cancelled.
            AlreadyRunningError: another run of the job is active.

        """
        run = self.get(run_id)
        try:
            with self._state.write() as connection:
                reopened = connection.execute(
                    sa.update(t.run)
                    .where(t.run.c.id == run.id, t.run.c.state == RunState.CANCELLED)
                    .values(
                        state=RunState.QUEUED,
                        as_of=as_of_json(as_of),
                        active_job=None if run.options.dry_run else run.job,
                        finished_at=None,
                        error=None,
                        rerun=None,
                        attempt=t.run.c.attempt + 1,
                        restarts=t.run.c.restarts + 1,
                    )
                )
        except IntegrityError:
            raise AlreadyRunningError(f"Already running: {run.job}") from None
        if not reopened.rowcount:
            raise UsageError(
                f"Run {run.id[:8]} is {run.state}; only a cancelled run can be resumed. "
                f"Start a new one: `tis-sync run {run.job}`."
            )
        return self.get(run.id)

    def begin_again(self, run: Run) -> bool:
        """Give an active run a new workflow and a new build; False if that has happened already."""
        own = t.run.c
        with self._state.write() as connection:
            begun = connection.execute(
                sa.update(t.run)
                .where(own.id == run.id, own.recoveries == run.recoveries, IS_ACTIVE)
                .values(recoveries=own.recoveries + 1, attempt=own.attempt + 1)
            )
        return bool(begun.rowcount)

    def end_attempt(self, run_id: str, attempt: int, waits_because: str | None = None) -> int:
        """Record that the run begins again; return the number of the next attempt.

        Its next build has a new name, and what is still in flight of earlier attempts stops.

        Args:
            run_id: the run.
            attempt: the number of the attempt that has failed.
            waits_because: the error after which the run waits before it begins again. None: it does
                not wait.

        """
        values: dict[str, Any] = {"attempt": attempt + 1}
        if waits_because is not None:
            values |= {"working_since": None, "error": waits_because}
        with self._state.write() as connection:
            connection.execute(
                sa.update(t.run)
                .where(t.run.c.id == run_id, t.run.c.attempt == attempt)
                .values(values)
            )
        return attempt + 1

    def expect_cleanup(self, run_id: str, *, needed: bool) -> None:
        """Record whether the run may hold a lock or an unfinished build."""
        with self._state.write() as connection:
            connection.execute(
                sa.update(t.run).where(t.run.c.id == run_id).values(needs_cleanup=needed)
            )

    def log(self, run_id: str, at: datetime, level: str, text: str) -> None:
        """Add a line to a run's log."""
        with self._state.write() as connection:
            connection.execute(
                sa.insert(t.run_log).values(run_id=run_id, at=at, level=level, text=text)
            )

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

    def prune(self, now: datetime, days: int) -> int:
        """Delete runs older than this many days, except the last success of each job.

        Returns:
            The number of runs deleted.

        """
        kept = [run.id for run in self.last_successes(self._jobs())]
        old = sa.select(t.run.c.id).where(
            t.run.c.created_at < now - timedelta(days=days),
            ~IS_ACTIVE,
            t.run.c.id.not_in(kept),
        )
        with self._state.write() as connection:
            for table in (t.run_phase, t.run_log, t.set_aside, t.loss):
                connection.execute(sa.delete(table).where(table.c.run_id.in_(old)))
            return int(connection.execute(sa.delete(t.run).where(t.run.c.id.in_(old))).rowcount)

    def _jobs(self) -> list[str]:
        with self._state.read() as connection:
            return list(connection.scalars(sa.select(t.run.c.job).distinct()))


def _cover(connection: sa.Connection, run: Run) -> None:
    """Move the last covered day of a job forward, unless the run leaves a gap before its days."""
    as_of, day = run.as_of, t.covered_day.c.day
    known = connection.scalar(
        sa.select(day).where(t.covered_day.c.job == run.job).with_for_update()
    )
    if known is None:
        if not run.past_day:
            connection.execute(sa.insert(t.covered_day).values(job=run.job, day=as_of.last))
        return
    leaves_gap = as_of.first > known + timedelta(days=1) and not as_of.every
    if as_of.last > known and not (leaves_gap and run.options.date is not None):
        connection.execute(
            sa.update(t.covered_day).where(t.covered_day.c.job == run.job).values(day=as_of.last)
        )


def _of_living_parent(connection: sa.Connection, rerun: Rerun) -> Rerun:
    """A rerun of a night that has ended belongs to no night; somebody may still need it."""
    if rerun.parent is None:
        return rerun
    is_active = sa.select(t.run.c.id).where(t.run.c.id == rerun.parent, IS_ACTIVE)
    if connection.scalar(is_active) is not None:
        return rerun
    return Rerun(Trigger.FOLLOW_UP, rerun.requested_by)


def _rerun_from_json(text: str) -> Rerun:
    values = loads(text)
    return Rerun(**values | {"trigger": Trigger(values["trigger"])})


def _rank(rerun: Rerun) -> int:
    return RERUN_TRIGGERS.index(rerun.trigger)
