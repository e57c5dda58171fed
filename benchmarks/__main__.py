"""`make bench`: the Java service's method, tis-sync and the upper bound, on the same servers.

Every night runs in a process of its own, as in production, so that its peak memory is that of a
night and of nothing else.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import Request, urlopen
from uuid import uuid4

import sqlalchemy as sa
from rich.console import Console
from rich.table import Table
from sqlalchemy.engine import make_url

from benchmarks import baseline_java, idle, upper_bound
from tis_sync.db.database import connect
from tis_sync.demo.draw import Size
from tis_sync.demo.generate import generate
from tis_sync.jobs.base import IndexTarget
from tis_sync.jobs.person_index import PERSON_INDEX
from tis_sync.search.connect import connect as connect_search
from tis_sync.search.rest import RestEngine
from tis_sync.settings.model import Settings

PHASES = ("first", "quiet", "one percent")
TRUST_JOBS = (
    ("PersonPlacementEmployingBodyTrustJob", "PersonTrust", "employingBodyId"),
    ("PersonPlacementTrainingBodyTrustJob", "PersonTrust", "trainingBodyId"),
    ("PostEmployingBodyTrustJob", "PostTrust", "employingBodyId"),
    ("PostTrainingBodyTrustJob", "PostTrust", "trainingBodyId"),
)
COLUMNS = (
    "job", "Java method *", "from nothing, alone", "ratio", "in the first night",
    "nothing changed", "1 % changed",
)  # fmt: skip
MAX_IDLE_SHARE = 0.02  # of one core: what an idle process may use


def main() -> None:
    """Measure, print tables, and write JSON."""
    arguments = _arguments()
    results = [_measure(arguments, people) for people in arguments.people]
    for result in results:
        _print(result)
    if len(results) > 1:
        _compare(results[0], results[-1])
    report: dict[str, Any] = {"sizes": results}
    if arguments.idle_seconds:
        progress(f"idle for {arguments.idle_seconds:,.0f} s")
        report["idle"] = idle.measure(arguments.idle_seconds)
        _print_idle(report["idle"], arguments.idle_seconds)
    arguments.json.write_text(json.dumps(report, indent=2))
    print(f"\nWritten to {arguments.json}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    add = parser.add_argument
    add("--people", type=int, nargs="*", default=[300_000], help="sizes of TCS; none: only idle")
    add("--baseline-pages", type=int, default=4, help="pages sampled for each body; 0: none")
    add("--nights-only", action="store_true", help="run no job alone, from nothing")
    add("--no-upper-bound", action="store_true", help="send no request bodies from memory")
    add("--idle-seconds", type=float, default=120, help="how long to measure idling; 0: not at all")
    add("--json", type=Path, default=Path("bench.json"), help="where to write the figures")
    add("--mariadb", default=os.environ.get("TIS_SYNC_TEST_MARIADB"), help="URL")
    add("--elasticsearch", default=os.environ.get("TIS_SYNC_TEST_ELASTICSEARCH"), help="URL")
    arguments = parser.parse_args()
    if arguments.people and not (arguments.mariadb and arguments.elasticsearch):
        parser.error(
            "MariaDB and Elasticsearch are needed: scripts/servers start, then "
            'eval "$(scripts/servers env)"'
        )
    return arguments


def _measure(arguments: argparse.Namespace, people: int) -> dict[str, Any]:
    name = f"tis_sync_bench_{uuid4().hex[:8]}"
    admin = sa.create_engine(arguments.mariadb, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    try:
        url = make_url(arguments.mariadb).set(database=name)
        with TemporaryDirectory() as home:
            return _measure_in(arguments, people, url.render_as_string(False), home)
    finally:
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name}")


def _measure_in(arguments: argparse.Namespace, people: int, url: str, home: str) -> dict[str, Any]:
    search_url = f"elasticsearch+{arguments.elasticsearch}"
    settings = Settings(home=Path(home), tcs_url=url, search_url=search_url)
    database = connect(url, name="TCS", setting="--mariadb")
    today = datetime.now(UTC).date()
    progress(f"{people:,} people: generating data")
    started = time.perf_counter()
    rows = generate(database, Size(people), today)
    generated = time.perf_counter() - started
    result: dict[str, Any] = {
        "people": people, "rows": sum(rows.values()), "generate_seconds": generated, "baseline": {},
    }  # fmt: skip
    database.close()
    _drop_indexes(arguments.elasticsearch)
    progress(f"{people:,} people: nights")
    result["nights"] = _run_nights(settings, home, alone=not arguments.nights_only)
    database = connect(url, name="TCS", setting="--mariadb")
    if not arguments.no_upper_bound:
        progress(f"{people:,} people: upper bound of the person index")
        search = connect_search(settings)
        target = PERSON_INDEX.target
        assert isinstance(search, RestEngine)
        assert isinstance(target, IndexTarget)
        seconds, documents = upper_bound.replay(database, search, settings, target, today)
        result["upper_bound"] = {"seconds": seconds, "documents": documents}
    if arguments.baseline_pages:
        for job, table, body in TRUST_JOBS:
            progress(f"{people:,} people: the Java method of {job}")
            pairs = result["nights"]["first"]["jobs"][job]["considered"]
            sample = baseline_java.trust_job(database, table, body, pairs, arguments.baseline_pages)
            result["baseline"][job] = vars(sample)
    database.close()
    _drop_indexes(arguments.elasticsearch)
    return result


def _run_nights(settings: Settings, home: str, *, alone: bool) -> dict[str, Any]:
    environment = {
        **os.environ,
        "TIS_SYNC_HOME": home,
        "TIS_SYNC_TCS_URL": settings.tcs(),
        "TIS_SYNC_SEARCH_URL": settings.search(),
    }
    nights: dict[str, Any] = {}
    for phase in PHASES:
        ended = subprocess.run(
            [sys.executable, "-m", "benchmarks.night", phase, *(["alone"] if alone else [])],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if ended.returncode:
            raise SystemExit(ended.stderr)
        nights[phase] = json.loads(ended.stdout.splitlines()[-1])
        progress(f"    {phase}: {nights[phase]['seconds']:.1f} s, {nights[phase]['peak_mb']:,} MB")
    return nights


def _drop_indexes(address: str) -> None:
    with urlopen(f"{address}/_cat/indices/persons*,posts*?format=json") as response:
        for index in json.load(response):
            urlopen(Request(f"{address}/{index['index']}", method="DELETE")).close()


def progress(text: str) -> None:
    """Print a line of progress."""
    print(text, file=sys.stderr, flush=True)


def _print(result: dict[str, Any]) -> None:
    nights = result["nights"]
    table = Table(title=f"{result['people']:,} people, {result['rows']:,} rows in TCS (seconds)",
                  title_justify="left")  # fmt: skip
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "job" else "right")
    for job in nights["first"]["jobs"]:
        first, quiet, changed = (nights[phase]["jobs"][job] for phase in PHASES)
        baseline = result["baseline"].get(job)
        alone = nights["first"].get("alone", {}).get(job)
        table.add_row(
            job,
            f"{baseline['seconds']:,.0f}" if baseline else "-",
            f"{alone:.1f}" if alone else "-",
            f"{baseline['seconds'] / alone:,.0f} x" if baseline and alone else "-",
            f"{first['seconds']:.1f}",
            f"{quiet['seconds']:.1f}, {quiet['written']:,} written",
            f"{changed['seconds']:.1f}, {changed['written']:,} written",
        )
    for title, figure in (("whole night", "seconds"), ("peak memory, MB", "peak_mb")):
        table.add_row(title, "-", "-", "-", *(f"{nights[p][figure]:,.1f}" for p in PHASES))
    console = Console(width=150)
    console.print(table)
    for job, baseline in result["baseline"].items():
        console.print(
            f"* {job}: {baseline['pages_sampled']} of {baseline['pages']} pages measured, the "
            "rest extrapolated"
        )
    if "upper_bound" in result and "alone" in nights["first"]:
        alone = nights["first"]["alone"]["PersonElasticSearchSyncJob"]
        bound = result["upper_bound"]["seconds"]
        console.print(
            f"person index: built alone in {alone:.1f} s; upper bound (the same "
            f"{result['upper_bound']['documents']:,} documents from memory): {bound:.1f} s; "
            f"{alone / bound:.2f} times"
        )
    console.print(f"data: generated and loaded in {result['generate_seconds']:.0f} s")


def _compare(small: dict[str, Any], large: dict[str, Any]) -> None:
    people = large["people"] / small["people"]
    for phase in PHASES:
        seconds = large["nights"][phase]["seconds"] / small["nights"][phase]["seconds"]
        print(f"{phase}: {people:.0f} times the people take {seconds:.1f} times as long")


def _print_idle(shares: dict[str, float], seconds: float) -> None:
    figures = ", ".join(f"{name} {share:.1%}" for name, share in shares.items())
    print(f"idle: {figures} of one core over {seconds:,.0f} s (at most {MAX_IDLE_SHARE:.0%})")


if __name__ == "__main__":
    main()
