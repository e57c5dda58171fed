"""Fixtures: real databases and search servers; each test has its own database."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
import sqlalchemy as sa
from filelock import FileLock
from hypothesis import HealthCheck, settings
from sqlalchemy.engine import make_url

from tests.world import World
from tis_sync import logs
from tis_sync.db.database import connect
from tis_sync.search.connect import connect as connect_search
from tis_sync.search.model import SearchEngine
from tis_sync.settings.model import Settings

if TYPE_CHECKING:
    from tests.brokers import Broker, Node
    from tests.oidc import OidcProvider

ROOT = Path(__file__).parent.parent
TODAY = date(2026, 3, 2)  # a Monday; no test depends on the real date
NOW = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
REQUIRED = os.environ.get("TIS_SYNC_TEST_SERVERS") == "required"

settings.register_profile(
    "tis",
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("tis")


# The setting with which other processes take the start of this test session for `NOW`.
AHEAD_SECONDS = (NOW - datetime.now(UTC)).total_seconds()
ON_THE_DAY = {"TIS_SYNC_CLOCK_OFFSET_SECONDS": str(AHEAD_SECONDS)}


class Clock:
    """A clock that a test sets."""

    def __init__(self, now: datetime = NOW) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **by: float) -> None:
        self.now += timedelta(**by)


# The indexes of the search servers have fixed names, so one test at a time uses these servers,
# however many processes run tests.
SEARCH_SERVERS = FileLock(ROOT / ".servers" / "search.lock")


@pytest.fixture
def clock() -> Clock:
    return Clock()


def absent(reason: str) -> None:
    """Skip because a server is missing, or fail if servers are required."""
    if REQUIRED:
        pytest.fail(f"{reason}; TIS_SYNC_TEST_SERVERS=required")
    pytest.skip(f"{reason}; `scripts/servers start`, then `scripts/servers env` says what to set")


def _database_url(variable: str, default: str, name: str) -> str:
    url = os.environ.get(variable) or (default if REQUIRED else "")
    if not url:
        absent(f"no {name} ({variable} is not set)")
    return url


@pytest.fixture
def mariadb() -> Iterator[str]:
    """The URL of an empty MariaDB database for this test."""
    server = _database_url(
        "TIS_SYNC_TEST_MARIADB", "mysql+pymysql://root@127.0.0.1:3306", "MariaDB"
    )
    yield from _fresh_database(server, "CREATE DATABASE {} CHARACTER SET utf8mb4")


@pytest.fixture
def postgresql() -> Iterator[str]:
    """The URL of an empty PostgreSQL database for this test."""
    server = _database_url(
        "TIS_SYNC_TEST_POSTGRESQL", "postgresql+psycopg://postgres@127.0.0.1:5432", "PostgreSQL"
    )
    yield from _fresh_database(server + "/postgres", "CREATE DATABASE {}", " WITH (FORCE)")


def _fresh_database(server: str, create: str, force: str = "") -> Iterator[str]:
    name = f"tis_sync_test_{uuid4().hex[:12]}"
    admin = sa.create_engine(server, isolation_level="AUTOCOMMIT")
    try:
        with admin.connect() as connection:
            connection.exec_driver_sql(create.format(name))
    except sa.exc.OperationalError as error:
        absent(f"{server} does not answer: {error.orig}")
    try:
        yield make_url(server).set(database=name).render_as_string(hide_password=False)
    finally:
        with admin.connect() as connection:
            connection.exec_driver_sql(f"DROP DATABASE {name}{force}")
        admin.dispose()


@cache
def _search_server(variable: str, name: str) -> str:
    url = os.environ.get(variable)
    if url:
        return url
    found = subprocess.run(
        [sys.executable, str(ROOT / "scripts/servers"), "env", name],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for line in found.splitlines():
        if line.startswith(f"export {variable}="):
            return line.partition("=")[2]
    absent(f"no {name} ({variable} is not set)")
    raise AssertionError


@pytest.fixture
def elasticsearch() -> Iterator[str]:
    """The address of an Elasticsearch server, which no other test uses meanwhile."""
    address = _search_server("TIS_SYNC_TEST_ELASTICSEARCH", "elasticsearch")
    with SEARCH_SERVERS:
        yield address


@pytest.fixture
def opensearch() -> Iterator[str]:
    """The address of an OpenSearch server, which no other test uses meanwhile."""
    address = _search_server("TIS_SYNC_TEST_OPENSEARCH", "opensearch")
    with SEARCH_SERVERS:
        yield address


@pytest.fixture(params=["sqlite", "mariadb"])
def tcs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    """An empty TCS, on each kind of database."""
    url = f"sqlite:///{tmp_path / 'tcs.sqlite'}"
    if request.param == "mariadb":
        url = request.getfixturevalue("mariadb")
    yield from _world(url)


@pytest.fixture
def embedded_tcs(tmp_path: Path) -> Iterator[World]:
    """An empty TCS in SQLite."""
    yield from _world(f"sqlite:///{tmp_path / 'tcs.sqlite'}")


@pytest.fixture
def mariadb_tcs(mariadb: str) -> Iterator[World]:
    """An empty TCS in MariaDB."""
    yield from _world(mariadb)


def _world(url: str) -> Iterator[World]:
    engine = connect(url, name="TCS", setting="TIS_SYNC_TCS_URL")
    world = World(engine, url)
    world.create()
    yield world
    engine.close()


SearchUrl = Callable[[str], str]


@pytest.fixture
def search_url(request: pytest.FixtureRequest, tmp_path: Path) -> SearchUrl:
    """The `search_url` of a kind of engine; its indexes `persons*` and `posts*` are dropped."""

    def url(kind: str) -> str:
        if kind == "embedded":
            return f"embedded:{tmp_path / 'search'}"
        address = str(request.getfixturevalue(kind))
        drop_indexes(address)
        return f"{kind}+{address}"

    return url


def drop_indexes(address: str) -> None:
    """Drop our indexes and those of the Java service from a search server, also blocked ones."""
    from tests.search_server import send

    for index in send(address, "GET", "/_cat/indices/persons*,posts*?format=json"):
        blocks = {f"index.blocks.{kind}": None for kind in ("read_only", "metadata")}
        send(address, "PUT", f"/{index['index']}/_settings", blocks)
        send(address, "DELETE", f"/{index['index']}")


@pytest.fixture(params=["embedded", "elasticsearch", "opensearch"])
def search(request: pytest.FixtureRequest, search_url: SearchUrl, tmp_path: Path) -> SearchEngine:
    """Each kind of search engine, empty."""
    return connect_search(Settings(home=tmp_path, search_url=search_url(request.param)))


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ignore the settings of the developer's shell; embedded data goes to a new folder."""
    for name in list(os.environ):
        if name.startswith("TIS_SYNC_") and not name.startswith("TIS_SYNC_TEST_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("TIS_SYNC_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    logs.configure(Settings(home=tmp_path), level="CRITICAL")


@pytest.fixture(autouse=True)
def _columnar_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the small tables of tests as large ones are read."""
    monkeypatch.setattr("tis_sync.tcs.source.SMALL_ROWS", 0)


@pytest.fixture(scope="session")
def rabbitmq(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Node]":
    """A RabbitMQ node for the tests."""
    from tests.brokers import node

    yield from node(tmp_path_factory.mktemp("rabbitmq"))


@pytest.fixture
def broker(rabbitmq: "Node") -> "Iterator[Broker]":
    """A RabbitMQ virtual host for this test."""
    from tests.brokers import Broker

    broker = Broker(rabbitmq, f"test-{uuid4().hex[:12]}")
    broker.create()
    yield broker
    broker.drop()


@pytest.fixture(scope="session")
def oidc(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[OidcProvider]":
    """A sign-in provider."""
    from tests.oidc import provider

    # The library that signs in refuses to send secrets without TLS; here they stay on this machine.
    os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "true"
    yield from provider(tmp_path_factory.mktemp("oidc"))
