"""TLS to TCS: every read and write is encrypted as the URL asks for, or refused."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from uuid import uuid4

import pymysql
import pytest

from tests.conftest import TODAY
from tests.mysql_servers import SecureServer, secure_server
from tests.world import MOMENT, World
from tis_sync.db.database import Database, connect
from tis_sync.db.mysql_relay import relay
from tis_sync.errors import UnreachableError, UsageError
from tis_sync.jobs.reads import PLACEMENTS
from tis_sync.tcs import tables as t
from tis_sync.tcs.connector import read_columns
from tis_sync.tcs.key_ranges import ALL_KEYS
from tis_sync.tcs.read import Read
from tis_sync.tcs.source import Source

pytestmark = pytest.mark.servers
CIPHER = (
    "SELECT variable_value AS v FROM information_schema.session_status "
    "WHERE variable_name = 'ssl_cipher'"
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureServer]:
    with secure_server(tmp_path_factory.mktemp("mariadb")) as started:
        yield started


@pytest.fixture
def schema(server: SecureServer) -> Iterator[str]:
    name = f"tcs_{uuid4().hex[:8]}"
    server.execute(f"CREATE DATABASE {name} CHARACTER SET utf8mb4")
    yield name
    server.execute(f"DROP DATABASE {name}")


def opened(url: str) -> Database:
    return connect(url, name="TCS", setting="TIS_SYNC_TCS_URL")


def ciphers(database: Database) -> tuple[str, str]:
    """The ciphers of a read of whole columns, and of the driver; empty without TLS."""
    with database.read() as connection:
        of_driver = str(connection.exec_driver_sql(CIPHER).scalar())
    return read_columns(database, CIPHER, "x")["v"][0], of_driver


@pytest.mark.parametrize(
    "options",
    [
        "",
        "ssl_ca={ca}",
        "ssl_ca={ca}&ssl_verify_cert=true&ssl_verify_identity=true",
        "ssl_ca={ca}&ssl_check_hostname=false",
        "ssl_verify_cert=false",
    ],
)
def test_columns_are_read_with_tls_from_a_server_that_requires_it(
    server: SecureServer, schema: str, options: str
) -> None:
    ca = server.folder / "ca.pem"
    url = server.url(schema, options.format(ca=ca), host="localhost")
    database = opened(url)
    world = World(database, url)
    world.create()
    world.fill(
        {"Placement": [{"id": i, "traineeId": i, "dateFrom": TODAY} for i in range(1, 2001)]}
    )
    frame = Source(database, TODAY).load([PLACEMENTS], ALL_KEYS).frames["Placement"]
    assert frame.height == 2000
    assert all(ciphers(database))
    database.close()


@pytest.mark.parametrize(
    ("options", "host"),
    [
        ("ssl_ca={folder}/other.pem", "localhost"),
        ("ssl_verify_cert=true", "localhost"),  # none of the system's authorities signed it
        ("ssl_ca={folder}/ca.pem", "127.0.0.2"),  # not a name in the certificate
        ("ssl_ca={folder}/ca.pem&ssl_verify_identity=true", "127.0.0.2"),
    ],
)
def test_a_server_whose_certificate_is_wrong_is_refused(
    server: SecureServer, schema: str, options: str, host: str
) -> None:
    url = server.url(schema, options.format(folder=server.folder), host)
    with pytest.raises(UnreachableError, match=r"does not answer .*TIS_SYNC_TCS_URL"):
        opened(url)


def test_a_server_without_tls_is_refused_if_the_url_asks_for_tls(
    server: SecureServer, mariadb: str
) -> None:
    with pytest.raises(UnreachableError, match=r"(?i)ssl"):
        opened(f"{mariadb}?ssl_ca={server.folder / 'ca.pem'}")
    database = opened(mariadb)
    assert ciphers(database) == ("", "")
    database.close()


def test_the_relay_refuses_a_server_that_no_longer_offers_tls(
    server: SecureServer, mariadb: str
) -> None:
    """Columns are never read in clear, even if TLS ends after the driver has connected."""
    secure, plain = opened(server.url("mysql", f"ssl_ca={server.folder}/ca.pem")), opened(mariadb)
    assert secure.server is not None
    assert plain.server is not None
    downgraded = replace(plain.server, tls=secure.server.tls, tls_required=True)
    with relay(downgraded) as relayed:
        assert isinstance(relayed.address, str)
        with pytest.raises(pymysql.err.OperationalError):
            pymysql.connect(unix_socket=relayed.address, user="root", ssl_disabled=True)
    assert str(relayed.failure) == "it does not offer TLS"
    secure.close()
    plain.close()


def test_the_unix_socket_is_used_if_the_url_names_one(server: SecureServer, schema: str) -> None:
    url = f"mysql+pymysql://root@localhost/{schema}?unix_socket={server.unix_socket}"
    database = opened(url)
    # Over TCP, a port follows the name.
    host = "SELECT host AS v FROM information_schema.processlist WHERE id = CONNECTION_ID()"
    assert read_columns(database, host, "x").rows() == [("localhost",)]
    assert ciphers(database) == ("", "")
    database.close()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("ssl_ca=/nowhere/ca.pem", "ssl_ca names /nowhere/ca.pem, which does not exist"),
        ("ssl_verify_cert=perhaps", "ssl_verify_cert must be true or false, not 'perhaps'"),
        ("ssl-mode=VERIFY_CA", "unknown option 'ssl-mode'; the options for TLS are ssl_ca"),
        ("ssl_cipher=NOTHING", "the options for TLS cannot be used"),
    ],
)
def test_options_that_cannot_be_used_are_named(query: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as raised:
        opened(f"mysql+pymysql://u:secret@127.0.0.1:1/tcs?{query}")
    assert "secret" not in str(raised.value)


def test_a_strict_server_does_not_hide_a_day_that_does_not_exist(
    server: SecureServer, schema: str
) -> None:
    """Date functions return NULL for it in this mode, which is the default of MySQL 8."""
    url = server.url(schema, "")
    database = opened(url)
    world = World(database, url)
    world.create()
    event = {"postId": 7, "positionNumber": 1, "positionId": 1, "status": "RECONCILED"}
    world.fill({"PostEsrEvent": [{"id": 2, "eventDateTime": MOMENT} | event]})
    world.execute_loosely("UPDATE PostEsrEvent SET eventDateTime = '0000-00-00 00:00:00'")
    read = Read(t.PostEsrEvent, ("id", "postId", "eventDateTime"))
    (bad,) = Source(database, TODAY).load([read], ALL_KEYS).set_aside
    assert str(bad) == "PostEsrEvent 2: eventDateTime '0000-00-00 00:00:00' is not a date"
    database.close()


def test_the_time_zone_of_the_server_changes_nothing(
    server: SecureServer, schema: str, tmp_path: Path
) -> None:
    """TIMESTAMP columns are converted by the server; here to five hours ahead, by default."""
    url = server.url(schema, "")
    database = opened(url)
    world = World(database, url)
    world.create()
    at = datetime(2026, 3, 2, 23, 30)  # noqa: DTZ001  as TCS keeps it
    world.fill({"EsrNotification": [{"id": 1, "createdDate": at}]})
    read = Read(t.EsrNotification, ("id", "createdDate"))
    frames = Source(database, TODAY, tmp_path).load([read], ALL_KEYS).frames
    assert frames["EsrNotification"].rows() == [(1, at)]
    assert world.rows(t.EsrNotification, "createdDate") == [(at,)]
    server.execute(f"USE {schema}", "SET time_zone = '+00:00'", "SET @at = NULL")
    with database.read() as connection:
        seconds = connection.exec_driver_sql(
            "SELECT UNIX_TIMESTAMP(createdDate) FROM EsrNotification"
        ).scalar()
    assert seconds == (at - datetime(1970, 1, 1)).total_seconds()  # noqa: DTZ001
    database.close()
