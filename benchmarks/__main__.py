"""`make bench`: the old way, ours, and the limit, on MariaDB and Elasticsearch, in one run.

Ours runs in a process of its own, as the program does (`benchmarks.ours`), so that its peak memory
is that of a night and of nothing else.
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
from uuid import uuid4

import sqlalchemy as sa
from rich.console import Console
from rich.table import Table
from sqlalchemy.engine import make_url

from benchmarks import limit, old_way
from tis_sync.jobs.base import IndexProduct
from tis_sync.jobs.person_index import PERSON_INDEX
from tis_sync.search.connect import connect as connect_search
from tis_sync.search.rest import RestEngine
from tis_sync.settings import Settings
from tis_sync.tcs import demo
from tis_sync.tcs.connect import connect

TRUST_JOBS = (
    ("PersonPlacementEmployingBodyTrustJob", "PersonTrust", "employingBodyId"),
    ("PersonPlacementTrainingBodyTrustJob", "PersonTrust", "trainingBodyId"),
    ("PostEmployingBodyTrustJob", "PostTrust", "employingBodyId"),
    ("PostTrainingBodyTrustJob", "PostTrust", "trainingBodyId"),
)


COLUMNS = (
    "job", "old way *", "from nothing, alone", "ratio", "in the first night", "nothing changed",
    "1 % changed",
)  # fmt: skip


def main() -> None:
    """Measure, print a table, and write JSON."""
    arguments = _arguments()
    results = [_measure(arguments, people) for people in arguments.people]
    for result in results:
        _print(result)
    if len(results) > 1:
        _compare(results[0], results[-1])
    arguments.json.write_text(json.dumps(results, indent=2))
    print(f"\nWritten to {arguments.json}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--people", type=int, nargs="+", default=[300_000])
    parser.add_argument("--old-pages", type=int, default=4, help="pages sampled a body; 0: none")
    parser.add_argument("--nights-only", action="store_true", help="no job alone, from nothing")
    parser.add_argument("--no-limit", action="store_true", help="don't replay from memory")
    parser.add_argument("--json", type=Path, default=Path("bench.json"))
    parser.add_argument("--mariadb", default=os.environ.get("TIS_SYNC_TEST_MARIADB"))
    parser.add_argument("--elasticsearch", default=os.environ.get("TIS_SYNC_TEST_ELASTICSEARCH"))
    arguments = parser.parse_args()
    if not arguments.mariadb or not arguments.elasticsearch:
        parser.error(
            "needs MariaDB and Elasticsearch: scripts/servers start, then "
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
    engine = connect(url, name="TCS", setting="--mariadb")
    today = datetime.now(UTC).date()
    say(f"{people:,} people: making the data")
    started = time.perf_counter()
    rows = demo.generate(engine, demo.Size(people), today)
    generated = time.perf_counter() - started
    result: dict[str, Any] = {
        "people": people, "rows": sum(rows.values()), "generate_seconds": generated, "old": {},
    }  # fmt: skip
    engine.dispose()
    _drop_indexes(arguments.elasticsearch)
    say(f"{people:,} people: ours")
    result["ours"] = _ours(settings, home, alone=not arguments.nights_only)
    engine = connect(url, name="TCS", setting="--mariadb")
    if not arguments.no_limit:
        say(f"{people:,} people: the limit of the person index")
        search = connect_search(settings)
        product = PERSON_INDEX.product
        assert isinstance(search, RestEngine)
        assert isinstance(product, IndexProduct)
        seconds, documents = limit.replay(engine, search, settings, product, today)
        result["limit"] = {"seconds": seconds, "documents": documents}
    if arguments.old_pages:
        for job, table, body in TRUST_JOBS:
            say(f"{people:,} people: the old way of {job}")
            pairs = result["ours"]["first"]["jobs"][job]["considered"]
            sampled = old_way.trust_job(engine, table, body, pairs, arguments.old_pages)
            result["old"][job] = vars(sampled)
    engine.dispose()
    _drop_indexes(arguments.elasticsearch)
    return result


def _ours(settings: Settings, home: str, *, alone: bool) -> dict[str, Any]:
    environment = {
        **os.environ,
        "TIS_SYNC_HOME": home,
        "TIS_SYNC_TCS_URL": settings.tcs(),
        "TIS_SYNC_SEARCH_URL": settings.search(),
    }
    done: dict[str, Any] = {}
    for phase in ("first", "quiet", "one percent"):
        ended = subprocess.run(
            [sys.executable, "-m", "benchmarks.ours", phase, *(["alone"] if alone else [])],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if ended.returncode:
            raise SystemExit(ended.stderr)
        done[phase] = json.loads(ended.stdout.splitlines()[-1])
        say(f"    {phase}: {done[phase]['seconds']:.1f} s, {done[phase]['peak_mb']:,} MB")
    return done


def _drop_indexes(address: str) -> None:
    from urllib.request import Request, urlopen

    with urlopen(f"{address}/_cat/indices/persons*,posts*?format=json") as reply:
        for index in json.load(reply):
            urlopen(Request(f"{address}/{index['index']}", method="DELETE")).close()


def say(text: str) -> None:
    """A line of progress."""
    print(text, file=sys.stderr, flush=True)


def _print(result: dict[str, Any]) -> None:
    ours = result["ours"]
    table = Table(title=f"{result['people']:,} people, {result['rows']:,} rows in TCS (seconds)",
                  title_justify="left")  # fmt: skip
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "job" else "right")
    for job in ours["first"]["jobs"]:
        first, quiet, changed = (ours[phase]["jobs"][job] for phase in ours)
        old = result["old"].get(job)
        alone = ours["first"].get("alone", {}).get(job)
        table.add_row(
            job,
            f"{old['seconds']:,.0f}" if old else "-",
            f"{alone:.1f}" if alone else "-",
            f"{old['seconds'] / alone:,.0f} x" if old and alone else "-",
            f"{first['seconds']:.1f}",
            f"{quiet['seconds']:.1f}, wrote {quiet['wrote']:,}",
            f"{changed['seconds']:.1f}, wrote {changed['wrote']:,}",
        )
    for what, figure in (("whole night", "seconds"), ("peak memory, MB", "peak_mb")):
        table.add_row(what, "-", "-", "-", *(f"{ours[p][figure]:,.1f}" for p in ours))
    console = Console(width=130)
    console.print(table)
    for job, old in result["old"].items():
        console.print(
            f"* {job}: {old['pages_sampled']} of {old['pages']} pages run, the rest extrapolated"
        )
    if "limit" in result and "alone" in ours["first"]:
        alone = ours["first"]["alone"]["PersonElasticSearchSyncJob"]
        bound = result["limit"]["seconds"]
        console.print(
            f"person index: built alone in {alone:.1f} s; the limit (the same "
            f"{result['limit']['documents']:,} bodies from memory) is {bound:.1f} s: "
            f"{alone / bound:.2f} times"
        )
    console.print(f"data: made and loaded in {result['generate_seconds']:.0f} s")


def _compare(small: dict[str, Any], large: dict[str, Any]) -> None:
    ratio = large["people"] / small["people"]
    for phase in small["ours"]:
        times = large["ours"][phase]["seconds"] / small["ours"][phase]["seconds"]
        print(f"{phase}: {ratio:.0f} times the people, {times:.1f} times the time")


if __name__ == "__main__":
    main()
