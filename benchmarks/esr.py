"""`python -m benchmarks.esr`: 47,000 starters at once, over thirteen deaneries.

Generate and export on MariaDB and PostgreSQL, in this process; seconds, and the peak memory of a
process that does nothing else.
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

from benchmarks.ours import peak_mb
from tis_sync.esr.commands import Commands
from tis_sync.esr.deaneries import APP, london_day
from tis_sync.esr.files import files
from tis_sync.esr.generations import bring_up_to_date
from tis_sync.esr.workflows import ask_for_day, start
from tis_sync.runs.services import utc_now
from tis_sync.runs.session import session
from tis_sync.settings import load_settings
from tis_sync.tcs import demo
from tis_sync.tcs.connect import connect

PEOPLE = 143_000  # of whom some 47,000 start within thirteen weeks


def main() -> None:
    """Make the data, measure in a process of its own, print the figures."""
    if os.environ.get("TIS_SYNC_BENCH_INSIDE"):
        _inside()
        return
    parser = argparse.ArgumentParser(prog="python -m benchmarks.esr", description=__doc__)
    parser.add_argument("--people", type=int, default=PEOPLE)
    parser.add_argument("--mariadb", default=os.environ.get("TIS_SYNC_TEST_MARIADB"))
    parser.add_argument("--postgresql", default=os.environ.get("TIS_SYNC_TEST_POSTGRESQL"))
    arguments = parser.parse_args()
    if not arguments.mariadb or not arguments.postgresql:
        parser.error('needs MariaDB and PostgreSQL: eval "$(scripts/servers env)"')
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
    engine.dispose()
    environment = {
        **os.environ,
        "TIS_SYNC_BENCH_INSIDE": "1",
        "TIS_SYNC_HOME": home,
        "TIS_SYNC_TCS_URL": tcs,
        "TIS_SYNC_STATE_URL": state.render_as_string(hide_password=False),
    }
    command = [sys.executable, "-m", "benchmarks.esr"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise SystemExit(ended.stderr)
    found = json.loads(ended.stdout.splitlines()[-1])
    print(
        f"{found['records']:,} records eligible at once: generated in {found['generate']:.1f} s "
        f"(again, nothing changed: {found['again']:.1f} s); {found['files']} files with "
        f"{found['lines']:,} records exported in {found['export']:.1f} s; peak memory "
        f"{found['peak_mb']:,} MB"
    )


def _inside() -> None:
    with session(load_settings()) as s:
        seconds: dict[str, float] = {}
        for what in ("generate", "again"):
            started = time.perf_counter()
            made = bring_up_to_date(s, trigger="manual", who="benchmark")
            seconds[what] = time.perf_counter() - started
        started = time.perf_counter()
        asked = ask_for_day(s, APP, london_day(s.clock()), "manual", "benchmark")
        start(asked)
        ids = [command.id for command in asked]
        while any(c.state in {"queued", "running"} for c in Commands(s.state).many(ids)):
            time.sleep(0.1)
        seconds["export"] = time.perf_counter() - started
        ended = Commands(s.state).many(ids)
        assert {command.state for command in ended} == {"done"}, ended
        written = files(s.state)
        assert len(list(Path(s.settings.export().removeprefix("file://")).iterdir())) == len(
            written
        )
        print(
            json.dumps(
                seconds
                | {
                    "records": made.eligible,
                    "files": len(written),
                    "lines": sum(file.records for file in written),
                    "peak_mb": peak_mb(),
                }
            )
        )


if __name__ == "__main__":
    main()
