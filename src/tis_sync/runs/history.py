"""The record of runs: asked for, begun, what phase they are in, how they ended; kept for a year.

A run is active while it is queued or running, and a job has one active run at the most: the
database holds that (`run.active_job` is unique), across processes and machines.
"""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from json import dumps
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from tis_sync.errors import AlreadyRunningError, NotFoundError, UsageError
from tis_sync.jobs.base import AsOf
from tis_sync.runs.rows import queued, run_of
from tis_sync.runs.run import Line, Options, Run, State
from tis_sync.state import tables as t
from tis_sync.state.web import audit
from tis_sync.tcs.source import SetAside

SET_ASIDE_KEPT = 1000  # records named in the history of one run; all are counted


class History:
    """The runs in a state database."""

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine

    def _write(self) -> Any:
        return self._engine.execution_options(writes=True).begin()

    def request(
        self,
        job: str,
        *,
        trigger: str,
        who: str,
        as_of: AsOf,
        options: Options,
        now: datetime,
        parent: str | None = None,
        run_id: str | None = None,
    ) -> Run:
        """Record that a run was asked for; it is queued.

        Args:
            job: its name, or that of the night.
            trigger: what asked.
            who: the person, or the process.
            as_of: the dates it is made for.
            options: how.
            now: the present moment.
            parent: the night, or the run that this one follows.
            run_id: its id, where the caller made one of an idempotency key: asked for again, it
                is the same run. None: a new id.

        Raises:
            AlreadyRunningError: the job has an active run; the error names it.
            UsageError: a run of that id was asked for otherwise.

        """
        values = queued(job, trigger, who, as_of, options, now, parent)
        values["id"] = run_id or values["id"]
        try:
            with self._write() as connection:
                connection.execute(sa.insert(t.run).values(values))
        except IntegrityError:
            for known in self._runs(sa.select(t.run).where(t.run.c.id == run_id)):
                if (known.job, known.options) == (job, options):
                    return known
                raise UsageError(
                    "This idempotency key was used for another request; make a new one."
                ) from None
            active = self.active(job)
            raise AlreadyRunningError(
                f"Already running: {job}" + (f", run {active.id[:8]}" if active else ""),
                active.id if active else None,
            ) from None
        return self.get(values["id"])

    def ask_again(self, run_id: str) -> bool:
        """Have an active run followed by another when it ends; False: it has ended already."""
        with self._write() as connection:
            result = connection.execute(
                sa.update(t.run)
                .where(t.run.c.id == run_id, t.run.c.active_job.is_not(None))
                .values(again=True)
            )
        return bool(result.rowcount)

    def begin(self, run_id: str, now: datetime) -> Run:
        """The run starts, or goes on after a crash; a run that was cancelled stays so."""
        with self._write() as connection:
            connection.execute(
                sa.update(t.run)
                .where(t.run.c.id == run_id, t.run.c.state == "queued")
                .values(state="running", started_at=now)
            )
        return self.get(run_id)

    def phase(self, run_id: str, name: str, now: datetime, partitions: int | None = None) -> None:
        """The run enters a phase, of so many partitions."""
        with self._write() as connection:
            number = sa.select(sa.func.count() + 1).where(t.run_phase.c.run_id == run_id)
            connection.execute(
                sa.insert(t.run_phase).values(
                    run_id=run_id, number=number.scalar_subquery(), name=name, started_at=now
                )
            )
            connection.execute(
                sa.update(t.run)
                .where(t.run.c.id == run_id)
                .values(phase=name, partitions=partitions, partitions_done=0)
            )

    def partition_done(self, run_id: str) -> None:
        """One more partition of the present phase is done: for progress bars only."""
        with self._write() as connection:
            connection.execute(
                sa.update(t.run)
                .where(t.run.c.id == run_id)
                .values(partitions_done=t.run.c.partitions_done + 1)
            )

    def note(self, run_id: str, **values: Any) -> None:
        """Record counts, `size`, or `detail` (a dict)."""
        if "detail" in values:
            values["detail"] = dumps(values["detail"], default=str)
        with self._write() as connection:
            connection.execute(sa.update(t.run).where(t.run.c.id == run_id).values(**values))

    def end(
        self,
        run_id: str,
        state: State,
        now: datetime,
        error: str | None = None,
        again: AsOf | None = None,
    ) -> None:
        """The run ends; if another was asked for meanwhile (`ask_again`), that one is queued.

        Both are one transaction, so that who waits for all that follows misses none. A run that
        has ended already, as one that was cancelled, stays as it ended.

        Args:
            run_id: the run.
            state: how it ended.
            now: the present moment.
            error: why, if not well.
            again: the days of the other run; without it, none is queued.

        """
        ended = (
            sa.update(t.run)
            .where(t.run.c.id == run_id, t.run.c.active_job.is_not(None))
            .values(state=state, active_job=None, finished_at=now, error=error)
        )
        with self._write() as connection:
            if not connection.execute(ended).rowcount or again is None:
                return
            run = connection.execute(sa.select(t.run).where(t.run.c.id == run_id)).one()
            if run.again:
                values = queued(run.job, "follow-up", run.who, again, Options(), now, run_id)
                connection.execute(sa.insert(t.run).values(values))

    def reopen(self, run_id: str) -> Run:
        """A cancelled run goes on: it is queued again.

        Raises:
            UsageError: it was not cancelled.
            AlreadyRunningError: another run of the job is active.

        """
        run = self.get(run_id)
        if run.state != "cancelled":
            raise UsageError(
                f"Run {run.id[:8]} is {run.state}; only a cancelled run can be resumed. "
                f"Start a new one: `tis-sync run {run.job}`."
            )
        try:
            with self._write() as connection:
                connection.execute(
                    sa.update(t.run)
                    .where(t.run.c.id == run_id)
                    .values(state="queued", active_job=run.job, finished_at=None, error=None)
                )
        except IntegrityError:
            raise AlreadyRunningError(f"Already running: {run.job}") from None
        return self.get(run_id)

    def get(self, run_id: str) -> Run:
        """A run by its id, or by the beginning of it.

        Raises:
            NotFoundError: no run begins so.
            UsageError: several do.

        """
        statement = sa.select(t.run).where(t.run.c.id.startswith(run_id, autoescape=True)).limit(2)
        found = self._runs(statement)
        if not found:
            raise NotFoundError(f"There is no run {run_id!r}; `tis-sync history` lists them.")
        if len(found) > 1:
            raise UsageError(f"Several runs begin with {run_id!r}; give more of its id.")
        return found[0]

    def active(self, job: str) -> Run | None:
        """The job's active run."""
        found = self._runs(sa.select(t.run).where(t.run.c.active_job == job))
        return found[0] if found else None

    def all_active(self, jobs: Collection[str] | None = None) -> list[Run]:
        """Every active run; of some jobs only, where named."""
        statement = sa.select(t.run).where(t.run.c.active_job.is_not(None))
        if jobs is not None:
            statement = statement.where(t.run.c.active_job.in_(jobs))
        return self._runs(statement)

    def many(self, run_ids: Sequence[str]) -> list[Run]:
        """Runs by their whole ids, in that order."""
        found = {run.id: run for run in self._runs(sa.select(t.run).where(t.run.c.id.in_(run_ids)))}
        return [found[run_id] for run_id in run_ids]

    def family(self, run_id: str) -> list[Run]:
        """A run, the runs that it asked for, and theirs, the oldest first."""
        ids = sa.select(t.run.c.id).where(t.run.c.id == run_id).cte(recursive=True)
        ids = ids.union(sa.select(t.run.c.id).join(ids, t.run.c.parent == ids.c.id))
        return self._runs(
            sa.select(t.run)
            .where(t.run.c.id.in_(sa.select(ids.c.id)))
            .order_by(t.run.c.id != run_id, t.run.c.created_at)
        )

    def children(self, run_id: str) -> list[Run]:
        """The runs that a night, or a run that they follow, asked for."""
        return self._runs(
            sa.select(t.run).where(t.run.c.parent == run_id).order_by(t.run.c.created_at)
        )

    def recent(
        self,
        limit: int = 20,
        job: str | None = None,
        states: Sequence[State] = (),
        *,
        dry_runs: bool = True,
        before: str | None = None,
    ) -> list[Run]:
        """The last runs, newest first; `before` that of this id, where given."""
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
        """All runs that were asked for since a moment, and those that are active; newest first."""
        asked = t.run.c.created_at >= sa.literal(moment, t.run.c.created_at.type)
        statement = sa.select(t.run).where(sa.or_(asked, t.run.c.active_job.is_not(None)))
        return self._runs(statement.order_by(t.run.c.created_at.desc(), t.run.c.id))

    def last(self, job: str) -> Run | None:
        """The job's newest run that was meant to write."""
        return next(iter(self._real(job, (), 1)), None)

    def last_success(self, job: str) -> Run | None:
        """The job's newest run that succeeded and was no dry run."""
        return next(iter(self._real(job, ("succeeded",), 1)), None)

    def last_successes(self, jobs: Collection[str]) -> list[Run]:
        """The newest run of each job that succeeded and was no dry run."""
        newest = sa.func.row_number().over(
            partition_by=t.run.c.job, order_by=(t.run.c.created_at.desc(), t.run.c.id)
        )
        real = sa.select(t.run.c.id, newest.label("place")).where(
            t.run.c.job.in_(jobs), t.run.c.state == "succeeded", ~t.run.c.dry_run
        )
        ranked = real.subquery()
        first = sa.select(ranked.c.id).where(ranked.c.place == 1)
        return self._runs(sa.select(t.run).where(t.run.c.id.in_(first)))

    def successes(self, job: str, limit: int) -> list[Run]:
        """The job's last runs that succeeded and were no dry runs, newest first."""
        return self._real(job, ("succeeded",), limit)

    def _real(self, job: str, states: Sequence[State], limit: int) -> list[Run]:
        return self.recent(limit, job, states, dry_runs=False)

    def phases(self, run_id: str) -> list[tuple[str, datetime]]:
        """The phases that a run entered, and when."""
        statement = (
            sa.select(t.run_phase.c.name, t.run_phase.c.started_at)
            .where(t.run_phase.c.run_id == run_id)
            .order_by(t.run_phase.c.number)
        )
        with self._engine.connect() as connection:
            return [(row.name, row.started_at) for row in connection.execute(statement)]

    def log(self, run_id: str, at: datetime, level: str, text: str) -> None:
        """Add a line to a run's log."""
        with self._write() as connection:
            connection.execute(
                sa.insert(t.run_log).values(run_id=run_id, at=at, level=level, text=text)
            )

    def lines(self, run_id: str, after: int = 0) -> list[Line]:
        """The log lines of a run with a number greater than `after`."""
        statement = (
            sa.select(t.run_log)
            .where(t.run_log.c.run_id == run_id, t.run_log.c.id > after)
            .order_by(t.run_log.c.id)
        )
        with self._engine.connect() as connection:
            return [
                Line(row.id, row.at, row.level, row.text) for row in connection.execute(statement)
            ]

    def add_set_aside(self, run_id: str, records: Iterable[SetAside]) -> None:
        """Keep records that a run could not use; those it names already are not doubled."""
        known = set(self.set_aside(run_id))
        new = [(r.table, r.key, str(r)) for r in dict.fromkeys(records)]
        rows = [
            {"run_id": run_id, "source": source, "record": record[:200], "reason": reason}
            for source, record, reason in new
            if reason not in known
        ][: max(0, SET_ASIDE_KEPT - len(known))]
        if rows:
            with self._write() as connection:
                connection.execute(sa.insert(t.set_aside), rows)

    def set_aside(self, run_id: str) -> list[str]:
        """The records that a run could not use, a line each."""
        statement = (
            sa.select(t.set_aside.c.reason)
            .where(t.set_aside.c.run_id == run_id)
            .order_by(t.set_aside.c.id)
        )
        with self._engine.connect() as connection:
            return list(connection.scalars(statement))

    def prune(self, now: datetime, days: int) -> int:
        """Forget runs older than so many days, but for the last success of each job.

        What was done by hand (the audit log) is forgotten with them.
        """
        kept = [run.id for job in self._jobs() if (run := self.last_success(job)) is not None]
        old = sa.select(t.run.c.id).where(
            t.run.c.created_at < now - timedelta(days=days),
            t.run.c.active_job.is_(None),
            t.run.c.id.not_in(kept),
        )
        with self._write() as connection:
            long_ago = sa.literal(now - timedelta(days=days), audit.c.at.type)
            connection.execute(sa.delete(audit).where(audit.c.at < long_ago))
            for table in (t.run_phase, t.run_log, t.set_aside):
                connection.execute(sa.delete(table).where(table.c.run_id.in_(old)))
            return int(connection.execute(sa.delete(t.run).where(t.run.c.id.in_(old))).rowcount)

    def _jobs(self) -> list[str]:
        with self._engine.connect() as connection:
            return list(connection.scalars(sa.select(t.run.c.job).distinct()))

    def _runs(self, statement: sa.Select[Any]) -> list[Run]:
        with self._engine.connect() as connection:
            rows = connection.execute(statement).mappings().all()
        return [run_of(dict(row)) for row in rows]
