"""Prometheus metrics, read from our state when they are asked for: any replica tells the same."""

from collections.abc import Iterator

import sqlalchemy as sa
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from tis_sync.esr.broker import letters
from tis_sync.esr.commands import Commands
from tis_sync.esr.deaneries import APP, DEANERIES, london_day, next_due
from tis_sync.esr.files import files
from tis_sync.esr.records import at_risk, counts
from tis_sync.jobs.catalogue import JOBS
from tis_sync.runs.services import Services
from tis_sync.runs.workers import living
from tis_sync.state import tables as t
from tis_sync.web.depends import Feeds, Servers, Viewer
from tis_sync.web.live import Live

router = APIRouter(tags=["health"])
FILES_A_DAY = 500  # far more than a day has


class _OfState(Collector):
    """The figures of one moment."""

    def __init__(self, services: Services, live: Live) -> None:
        self._s, self._live = services, live

    def collect(self) -> Iterator[Metric]:
        """All of them."""
        yield from self._jobs()
        yield from self._export()
        s = self._s
        yield Gauge(
            "tis_sync_workers", "Workers with schedules that live",
            len(living(s.state, s.clock(), s.settings.dead_after_seconds)),
        )  # fmt: skip
        alarms = Gauge("tis_sync_alarms_open", "Open alarms", labels=["kind"])
        kinds = [alarm.kind for alarm in s.alarms.open()]
        for kind in sorted(set(kinds)):
            alarms.add_metric([kind], kinds.count(kind))
        yield alarms
        yield Gauge("tis_sync_viewers", "Live viewers of this process", self._live.viewers)

    def _jobs(self) -> Iterator[Metric]:
        s, now = self._s, self._s.clock()
        runs = Gauge("tis_sync_runs", "Runs in the history, by state", labels=["job", "state"])
        counted = sa.select(t.run.c.job, t.run.c.state, sa.func.count()).where(~t.run.c.dry_run)
        with s.state.connect() as connection:
            for job, state, number in connection.execute(counted.group_by("job", "state")):
                runs.add_metric([job, state], number)
        yield runs
        age = Gauge(
            "tis_sync_job_last_success_age_seconds", "Since the last success of a job",
            labels=["job"],
        )  # fmt: skip
        seconds = Gauge("tis_sync_job_seconds", "What the last success took", labels=["job"])
        rows = Gauge(
            "tis_sync_job_rows", "Records of the last success, by what became of them",
            labels=["job", "kind"],
        )  # fmt: skip
        for run in s.history.last_successes([job.name for job in JOBS]):
            age.add_metric([run.job], (now - (run.finished_at or run.created_at)).total_seconds())
            seconds.add_metric([run.job], run.seconds or 0.0)
            for kind in ("considered", "added", "changed", "removed", "set_aside"):
                rows.add_metric([run.job, kind], getattr(run, kind) or 0)
        yield from (age, seconds, rows)
        active = s.history.all_active()
        waiting = Gauge("tis_sync_queue_depth", "What waits to be carried out", labels=["queue"])
        waiting.add_metric(["runs"], sum(run.state == "queued" for run in active))
        waiting.add_metric(["export"], len(Commands(s.state).in_state("queued")))
        yield waiting

    def _export(self) -> Iterator[Metric]:
        s, now = self._s, self._s.clock()
        records = Gauge("tis_sync_esr_records", "Records", labels=["deanery", "state"])
        for (deanery, state), number in counts(s.state).items():
            records.add_metric([deanery, state], number)
        yield records
        today = files(s.state, day=london_day(now), limit=FILES_A_DAY)
        written = Gauge("tis_sync_esr_files_today", "Files of today, written", labels=["type"])
        for file_type in sorted({APP} | {file.file_type for file in today}):
            there = [file for file in today if file.file_type == file_type and file.written_at]
            written.add_metric([file_type], len({file.deanery for file in there}))
        yield written
        yield Gauge(
            "tis_sync_esr_deaneries", "Deaneries that each have a file a day", len(DEANERIES)
        )
        yield Gauge(
            "tis_sync_esr_stuck_records", "Records that the next export can no longer hold",
            len(at_risk(s.state, now)),
        )  # fmt: skip
        yield Gauge(
            "tis_sync_esr_seconds_to_export", "Until the next export",
            (next_due(APP, now) - now).total_seconds(),
        )  # fmt: skip
        dead = len(Commands(s.state).in_state("dead"))
        yield Gauge("tis_sync_esr_dead_commands", "Commands that failed for good", dead)
        waiting = len(letters.waiting(s.state))
        yield Gauge("tis_sync_esr_dead_letters", "Messages that could not be taken", waiting)


@router.get("/metrics")
def metrics(s: Servers, live: Feeds, _: Viewer) -> Response:
    """The figures, in Prometheus's text form."""
    return Response(generate_latest(figures(s, live)), media_type=CONTENT_TYPE_LATEST)


def figures(s: Services, live: Live) -> CollectorRegistry:
    """A registry that reads the figures of the moment at which it is asked."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_OfState(s, live))
    return registry
