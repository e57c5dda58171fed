"""Queries about the recorded runs; `History` adds what changes them."""

from collections.abc import Callable, Collection, Sequence
from datetime import date, datetime
from typing import Any

import sqlalchemy as sa

from tis_sync.db.database import Database
from tis_sync.errors import NotFoundError, UsageError
from tis_sync.jobs.base import AsOf
from tis_sync.runs.run import LogLine, Run, RunState, run_from_row
from tis_sync.state import tables as t
from tis_sync.state.clock import current_time

ACTIVE = (RunState.QUEUED, RunState.RUNNING)
IS_ACTIVE = t.run.c.state.in_(ACTIVE)


class RunQueries:
    """Reads the runs in a state database.

    Args:
        state: the state database.

    """

    def __init__(self, state: Database) -> None:
        self._state = state

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

    def working(self, clock: Callable[[], datetime]) -> list[tuple[Run, float]]:
        """The runs that are working, dry runs included, and for how many seconds each.

        A run that waits for its retry is not working. The beginning and the present are times of
        one clock (see `current_time`), whichever worker carries a run out.

        Args:
            clock: the process's clock.

        """
        present = current_time(self._state.dialect, process_clock=clock).label("present")
        statement = sa.select(t.run, present).where(IS_ACTIVE, t.run.c.working_since.is_not(None))
        with self._state.read() as connection:
            rows = connection.execute(statement).mappings().all()
        return [
            (run_from_row(dict(row)), (row["present"] - row["working_since"]).total_seconds())
            for row in rows
        ]

    def active_of(self, jobs: Collection[str]) -> list[Run]:
        """The active runs of the given jobs; dry runs do not count."""
        return self._runs(sa.select(t.run).where(t.run.c.active_job.in_(jobs)))

    def active_among(self, run_ids: Collection[str]) -> set[str]:
        """Those of these runs that are queued or running."""
        statement = sa.select(t.run.c.id).where(t.run.c.id.in_(run_ids), IS_ACTIVE)
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

    def last_of_same_kind(self, job: str, as_of: AsOf, *, past_day: bool) -> Run | None:
        """The newest run that decides whether a plan of such a run is still the latest.

        For a run for a past day, that is the newest one for that day; dry runs do not count.
        """
        if not past_day:
            return self.last(job)
        statement = (
            sa.select(t.run)
            .where(t.run.c.job == job, t.run.c.past_day, ~t.run.c.dry_run)
            .order_by(t.run.c.created_at.desc(), t.run.c.id)
        )
        days = (as_of.first, as_of.last)
        same = (r for r in self._runs(statement) if (r.as_of.first, r.as_of.last) == days)
        return next(same, None)

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

    def set_aside(self, run_id: str) -> list[str]:
        """The records that a run could not use, one line each."""
        statement = (
            sa.select(t.set_aside.c.reason)
            .where(t.set_aside.c.run_id == run_id)
            .order_by(t.set_aside.c.id)
        )
        with self._state.read() as connection:
            return list(connection.scalars(statement))

    def _runs(self, statement: sa.Select[Any]) -> list[Run]:
        with self._state.read() as connection:
            rows = connection.execute(statement).mappings().all()
        return [run_from_row(dict(row)) for row in rows]
