"""`python -m benchmarks.esr`: export 47,000 starters at once, in thirteen deaneries.

It generates and exports on MariaDB and PostgreSQL, in one process, and prints the seconds and the
peak memory of that process.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy.engine import make_url

from benchmarks.night import peak_mb
from tis_sync.app import session
from tis_sync.db.database import connect
from tis_sync.demo import generate as demo
from tis_sync.esr.applicants.generations import refresh_records
from tis_sync.esr.calendar import london_day
from tis_sync.esr.deaneries import FileType
from tis_sync.esr.export.commands import Commands, CommandState
from tis_sync.esr.export.workflow import request_day, start_commands
from tis_sync.esr.files.store import find_files
from tis_sync.runs.run import Trigger
from tis_sync.runs.services import utc_now
from tis_sync.settings.loading import load_settings

PEOPLE = 143_000  # of whom some 47,000 start within thirteen weeks


def main() -> None:
    """Make the data, measure in a separate process, and print the figures."""
    if os.environ.get("TIS_SYNC_BENCH_INSIDE"):
        _inside()
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks.esr", description=__doc__)
    parser.add_argument("--people", type=int, default=PEOPLE)
    parser.add_argument("--mariadb", default=os.environ.get("TIS_SYNC_TEST_MARIADB"))
    parser.add_argument("--postgresql", default=os.environ.get("TIS_SYNC_TEST_POSTGRESQL"))
    arguments = parser.parse_args()
    if not arguments.mariadb or not arguments.postgresql:
        parser.error('MariaDB and PostgreSQL are needed: eval "$(scripts/servers env)"')
    name = f"tis_sync_bench_{uuid4().hex[:8]}"
    servers = [
        sa.create_engine(url, isolation_level="AUTOCOMMIT")
        for url in (arguments.mariadb, f"{arguments.postgresql}/postgres")
    ]
    for engine in servers:
        with engine.connect() as connection:
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
    try:
        with TemporaryDirectory() as home:
            _measure(arguments, name, home)
    finally:
        for engine in servers:
            with engine.connect() as connection:
                connection.exec_driver_sql(f"DROP DATABASE {name}")


def _measure(arguments: argparse.Namespace, name: str, home: str) -> None:
    tcs = make_url(arguments.mariadb).set(database=name).render_as_string(hide_password=False)
    state = make_url(arguments.postgresql).set(database=name)
    engine = connect(tcs, name="TCS", setting="--mariadb")
    demo.generate(engine, demo.Size(arguments.people), london_day(utc_now()))
    engine.close()
    environment = {
        **os.environ,
        "TIS_SYNC_BENCH_INSIDE": "1",
        "TIS_SYNC_HOME": home,
        "TIS_SYNC_TCS_URL": tcs,
        "TIS_SYNC_STATE_URL": state.render_as_string(hide_password=False),
    }
    command = [sys.executable, "-m", "benchmarks.esr"]
    process = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if process.returncode:
        raise SystemExit(process.stderr)
    figures = json.loads(process.stdout.splitlines()[-1])
    print(
        f"{figures['records']:,} records eligible at once: generated in "
        f"{figures['generate']:.1f} s (a second time, nothing changed: {figures['again']:.1f} s); "
        f"{figures['files']} files with {figures['lines']:,} records exported in "
        f"{figures['export']:.1f} s; peak memory {figures['peak_mb']:,} MB"
    )


def _inside() -> None:
    with session(load_settings()) as s:
        seconds: dict[str, float] = {}
        for name in ("generate", "again"):
            started = time.perf_counter()
            generation = refresh_records(s, trigger=Trigger.MANUAL, requested_by="benchmark")
            seconds[name] = time.perf_counter() - started
        started = time.perf_counter()
        today = london_day(s.clock())
        requested = request_day(s, FileType.APP, today, Trigger.MANUAL, "benchmark")
        start_commands(s, requested)
        ids = [command.id for command in requested]
        active = {CommandState.QUEUED, CommandState.RUNNING}
        while any(command.state in active for command in Commands(s.state).many(ids)):
            time.sleep(0.1)
        seconds["export"] = time.perf_counter() - started
        ended = Commands(s.state).many(ids)
        assert {command.state for command in ended} == {CommandState.DONE}, ended
        files = find_files(s.state)
        assert len(list(Path(s.settings.export().removeprefix("file://")).iterdir())) == len(files)
        print(
            json.dumps(
                seconds
                | {
                    "records": generation.eligible,
                    "files": len(files),
                    "lines": sum(file.records for file in files),
                    "peak_mb": peak_mb(),
                }
            )
        )


if __name__ == "__main__":
    main()
