"""The history: the record of every run, from its request to its end.

A run is active while it is queued or running. A job has at most one active run; the database
enforces this across processes and machines (`run.active_job` is unique). Dry runs do not count.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import date, datetime, timedelta
from json import dumps, loads
from typing import Any
from uuid import UUID, uuid5

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from tis_sync.db.database import Database
from tis_sync.errors import AlreadyRunningError, NotFoundError, UsageError
from tis_sync.jobs.base import AsOf
from tis_sync.runs.run import (
    LogLine,
    Phase,
    Rerun,
    Run,
    RunDetail,
    RunOptions,
    RunState,
    Trigger,
    queued_row,
    run_from_row,
)
from tis_sync.state import tables as t
from tis_sync.tcs.fit import SetAside

SET_ASIDE_KEPT = 1000  # set-aside records that one run names; all of them are counted
ACTIVE = (RunState.QUEUED, RunState.RUNNING)
IS_ACTIVE = t.run.c.state.in_(ACTIVE)
# A later request for a rerun replaces one of a trigger further to the left.
RERUN_TRIGGERS = (Trigger.FOLLOW_UP, Trigger.SCHEDULE, Trigger.NIGHT)


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
                same = replace(known.options, approved_run=options.approved_run)
                if (known.job, same) == (job, options):
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
        rerun_id = str(uuid5(UUID(run_id), "rerun"))
        with self._state.write() as connection:
            run = connection.execute(
                sa.select(t.run).where(t.run.c.id == run_id).with_for_update()
            ).one()
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
            rerun = _rerun_from_json(run.rerun)
            values = queued_row(
                run.job,
                rerun.trigger,
                rerun.requested_by,
                rerun_as_of,
                RunOptions(approve=rerun.approve),
                now,
                rerun.parent or run_id,
            )
            connection.execute(sa.insert(t.run).values(values | {"id": rerun_id}))
        return rerun_id

    def reopen(self, run_id: str) -> Run:
        """Queue a cancelled run again, with a new workflow and a new build.

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

    def next_attempt(self, run_id: str) -> None:
        """Record that the run begins again, so that its next build has a new name."""
        with self._state.write() as connection:
            connection.execute(
                sa.update(t.run).where(t.run.c.id == run_id).values(attempt=t.run.c.attempt + 1)
            )

    def expect_cleanup(self, run_id: str, *, needed: bool) -> None:
        """Record whether the run may hold a lock or an unfinished build."""
        with self._state.write() as connection:
            connection.execute(
                sa.update(t.run).where(t.run.c.id == run_id).values(needs_cleanup=needed)
            )

    def to_clean_up(self) -> list[Run]:
        """The ended runs that may still hold a lock or an unfinished build."""
        return self._runs(sa.select(t.run).where(t.run.c.needs_cleanup, ~IS_ACTIVE))

    def covered_until(self, job: str) -> date | None:
        """The day up to which a dated job has covered every day; None if it never succeeded."""
        with self._state.read() as connection:
            return connection.scalar(
                sa.select(t.covered_day.c.day).where(t.covered_day.c.job == job)
            )

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
        """The active run of a job, or None; dry runs do not count."""
        found = self._runs(sa.select(t.run).where(t.run.c.active_job == job))
        return found[0] if found else None

    def all_active(self) -> list[Run]:
        """All active runs, dry runs included."""
        return self._runs(sa.select(t.run).where(IS_ACTIVE))

    def active_of(self, jobs: Collection[str]) -> list[Run]:
        """The active runs of the given jobs; dry runs do not count."""
        return self._runs(sa.select(t.run).where(t.run.c.active_job.in_(jobs)))

    def active_among(self, run_ids: Collection[str]) -> set[str]:
        """Those of these runs that are queued or running."""
        active = t.run.c.state.in_([RunState.QUEUED, RunState.RUNNING])
        statement = sa.select(t.run.c.id).where(t.run.c.id.in_(run_ids), active)
        with self._state.read() as connection:
            return set(connection.scalars(statement))

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
        only_usual: bool = False,
        before: str | None = None,
    ) -> list[Run]:
        """The latest runs, newest first.

        Args:
            limit: the maximum number.
            job: only runs of this job.
            states: only runs in one of these states. Empty: any state.
            only_usual: leave out dry runs, and runs for a past day only.
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
        if only_usual:
            statement = statement.where(~t.run.c.dry_run, ~t.run.c.past_day)
        return self._runs(statement)

    def since(self, moment: datetime) -> list[Run]:
        """All active runs, and those requested since a point in time, newest first."""
        recent = t.run.c.created_at >= sa.literal(moment, t.run.c.created_at.type)
        statement = sa.select(t.run).where(sa.or_(recent, IS_ACTIVE))
        return self._runs(statement.order_by(t.run.c.created_at.desc(), t.run.c.id))

    def last(self, job: str) -> Run | None:
        """The newest run of a job; dry runs, and runs for a past day only, do not count."""
        return next(iter(self._real(job, (), 1)), None)

    def last_success(self, job: str) -> Run | None:
        """The newest run of a job that succeeded; the same runs do not count."""
        return next(iter(self._real(job, (RunState.SUCCEEDED,), 1)), None)

    def last_successes(self, jobs: Collection[str]) -> list[Run]:
        """For each job, the newest run that succeeded; the same runs do not count."""
        newest = sa.func.row_number().over(
            partition_by=t.run.c.job, order_by=(t.run.c.created_at.desc(), t.run.c.id)
        )
        real = sa.select(t.run.c.id, newest.label("place")).where(
            t.run.c.job.in_(jobs),
            t.run.c.state == RunState.SUCCEEDED,
            ~t.run.c.dry_run,
            ~t.run.c.past_day,
        )
        ranked = real.subquery()
        first = sa.select(ranked.c.id).where(ranked.c.place == 1)
        return self._runs(sa.select(t.run).where(t.run.c.id.in_(first)))

    def successes(self, job: str, limit: int) -> list[Run]:
        """The last runs of a job that succeeded, newest first; the same runs do not count."""
        return self._real(job, (RunState.SUCCEEDED,), limit)

    def _real(self, job: str, states: Sequence[RunState], limit: int) -> list[Run]:
        return self.recent(limit, job, states, only_usual=True)

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

    def _runs(self, statement: sa.Select[Any]) -> list[Run]:
        with self._state.read() as connection:
            rows = connection.execute(statement).mappings().all()
        return [run_from_row(dict(row)) for row in rows]


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


def _rerun_from_json(text: str) -> Rerun:
    values = loads(text)
    return Rerun(**values | {"trigger": Trigger(values["trigger"])})


def _rank(rerun: Rerun) -> int:
    return RERUN_TRIGGERS.index(rerun.trigger)
