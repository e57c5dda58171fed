"""Prometheus metrics, read from the state database on request: every replica reports the same."""

from collections import Counter
from collections.abc import Iterator

import sqlalchemy as sa
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily as Gauge
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from tis_sync.alarms.catalogue import KINDS
from tis_sync.alarms.delivery import count_unsent
from tis_sync.esr.calendar import london_day, next_due
from tis_sync.esr.deaneries import DEANERIES, FileType
from tis_sync.esr.export.commands import Commands, CommandState
from tis_sync.esr.files.store import find_files
from tis_sync.esr.messaging import dead_letters
from tis_sync.esr.records import count_records, records_at_risk
from tis_sync.jobs.catalogue import JOBS
from tis_sync.runs.run import RunState
from tis_sync.runs.services import Services
from tis_sync.state import tables as t
from tis_sync.web.dependencies import Identified, LiveFeeds, Servers
from tis_sync.web.feeds import Feeds
from tis_sync.workers.cluster import live_workers

router = APIRouter(tags=["health"])
FILES_PER_DAY = 500  # far more than a day has


class _StateCollector(Collector):
    """Collects the metrics of one moment."""

    def __init__(self, services: Services, feeds: Feeds) -> None:
        self._s, self._feeds = services, feeds

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics."""
        yield from self._jobs()
        yield from self._export()
        yield Gauge("tis_sync_workers", "Live workers with schedules", len(live_workers(self._s)))
        alarms = Gauge("tis_sync_alarms_open", "Open alarms", labels=["kind"])
        counts = Counter(alarm.kind.name for alarm in self._s.alarms.open_alarms())
        for kind in KINDS:
            alarms.add_metric([kind.name], counts[kind.name])
        yield alarms
        yield Gauge(
            "tis_sync_notifications_unsent",
            "Notifications that a channel has not accepted yet",
            count_unsent(self._s.state),
        )
        yield Gauge("tis_sync_viewers", "Live viewers of this process", self._feeds.viewers)

    def _jobs(self) -> Iterator[Metric]:
        s, now = self._s, self._s.clock()
        runs = Gauge("tis_sync_runs", "Runs in the history, by state", labels=["job", "state"])
        counted = sa.select(t.run.c.job, t.run.c.state, sa.func.count()).where(~t.run.c.dry_run)
        with s.state.read() as connection:
            for job, state, number in connection.execute(counted.group_by("job", "state")):
                runs.add_metric([job, state], number)
        yield runs
        age = Gauge(
            "tis_sync_job_last_success_age_seconds",
            "Time since the last success of a job",
            labels=["job"],
        )
        seconds = Gauge("tis_sync_job_seconds", "Duration of the last success", labels=["job"])
        rows = Gauge(
            "tis_sync_job_rows", "Records of the last success, by kind", labels=["job", "kind"]
        )
        for run in s.history.last_successes([job.name for job in JOBS]):
            age.add_metric([run.job], (now - (run.finished_at or run.created_at)).total_seconds())
            seconds.add_metric([run.job], run.seconds or 0.0)
            counts = {
                "considered": run.considered,
                "added": run.added,
                "changed": run.changed,
                "removed": run.removed,
                "set_aside": run.set_aside,
            }
            for kind, count in counts.items():
                rows.add_metric([run.job, kind], count or 0)
        yield from (age, seconds, rows)
        queued = [run for run in s.history.all_active() if run.state == RunState.QUEUED]
        depth = Gauge("tis_sync_queue_depth", "Items waiting for a worker", labels=["queue"])
        depth.add_metric(["runs"], len(queued))
        depth.add_metric(["export"], len(Commands(s.state).in_state(CommandState.QUEUED)))
        yield depth

    def _export(self) -> Iterator[Metric]:
        s, now = self._s, self._s.clock()
        records = Gauge("tis_sync_esr_records", "Records", labels=["deanery", "state"])
        for (deanery, state), number in count_records(s.state).items():
            records.add_metric([deanery, state], number)
        yield records
        today = [
            file
            for file in find_files(s.state, day=london_day(now), limit=FILES_PER_DAY)
            if file.written_at is not None
        ]
        written = Gauge(
            "tis_sync_esr_files_today", "Deaneries with a written file of today", labels=["type"]
        )
        for file_type in sorted({FileType.APP, *(file.file_type for file in today)}):
            deaneries = {file.deanery for file in today if file.file_type == file_type}
            written.add_metric([file_type], len(deaneries))
        yield written
        yield Gauge(
            "tis_sync_esr_deaneries", "Deaneries that each have a file per day", len(DEANERIES)
        )
        yield Gauge(
            "tis_sync_esr_records_at_risk",
            "Unsent records of starters who start too soon for the next export",
            len(records_at_risk(s.state, now)),
        )
        yield Gauge(
            "tis_sync_esr_seconds_to_export",
            "Time until the next export",
            (next_due(FileType.APP, now) - now).total_seconds(),
        )
        yield Gauge(
            "tis_sync_esr_dead_commands",
            "Export commands that failed permanently",
            len(Commands(s.state).in_state(CommandState.DEAD)),
        )
        yield Gauge(
            "tis_sync_esr_dead_letters",
            "Messages that could not be used",
            len(dead_letters.waiting(s.state)),
        )


@router.get("/metrics")
def metrics(s: Servers, feeds: LiveFeeds, _: Identified) -> Response:
    """The metrics in Prometheus's text format; every role may read them."""
    return Response(generate_latest(registry_of(s, feeds)), media_type=CONTENT_TYPE_LATEST)


def registry_of(s: Services, feeds: Feeds) -> CollectorRegistry:
    """Return a registry that reads the metrics at the moment it is asked."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_StateCollector(s, feeds))
    return registry
