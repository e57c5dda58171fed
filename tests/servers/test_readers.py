"""While the night writes, a reader never misses what is correct both before and after."""

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.conftest import TODAY, SearchUrl
from tests.running import run_job, run_night, working
from tests.world import World
from tis_sync.demo import generate as demo
from tis_sync.demo.legacy_state import legacy_tables
from tis_sync.jobs.person_index import PERSONS
from tis_sync.jobs.post_index import POSTS
from tis_sync.search.connect import connect
from tis_sync.search.model import Query
from tis_sync.settings.model import Settings
from tis_sync.tcs import tables as t

pytestmark = pytest.mark.servers
PEOPLE = 1500
ROUNDS = 3
KEYS_A_READ = 40
TABLES = (
    (t.PersonTrust, ("personId", "trustId")),
    (t.PostTrust, ("postId", "trustId")),
    (t.PersonOwner, ("id", "owner", "rule")),
)


class Reader(threading.Thread):
    """Reads continuously and notes what is missing."""

    def __init__(self, read: Callable[[random.Random], list[object]]) -> None:
        super().__init__(daemon=True)
        self.read = read
        self.reads = 0
        self.missing: list[object] = []
        self.failure: BaseException | None = None
        self.stop = threading.Event()

    def run(self) -> None:
        random_source = random.Random(1)
        try:
            while not self.stop.is_set():
                self.missing += self.read(random_source)
                self.reads += 1
        except BaseException as error:  # noqa: BLE001
            self.failure = error


def table_reader(world: World, table: sa.Table, columns: tuple[str, ...]) -> Reader:
    """Reads ranges of a table; the current rows of even keys must always be present."""
    right: dict[int, set[tuple[object, ...]]] = {}
    for row in world.rows(table, *columns):
        if row[0] % 2 == 0:
            right.setdefault(row[0], set()).add(row)
    most = max(right)
    key = table.c[columns[0]]
    statement = sa.select(*(table.c[c] for c in columns)).where(
        key.between(sa.bindparam("low"), sa.bindparam("high"))
    )

    def read(random_source: random.Random) -> list[object]:
        low = random_source.randrange(1, most)
        with world.database.read() as connection:
            bounds = {"low": low, "high": low + KEYS_A_READ}
            found = {tuple(row) for row in connection.execute(statement, bounds)}
        expected = [row for k in range(low, low + KEYS_A_READ + 1) for row in right.get(k, ())]
        return [row for row in expected if row not in found]

    return Reader(read)


def index_reader(url: str, home: Path, index: str, words: list[str]) -> Reader:
    """Searches for one document after another; each must be found."""
    spec = {"persons": PERSONS, "posts": POSTS}[index]
    engine = connect(Settings(home=home, search_url=url))

    def read(random_source: random.Random) -> list[object]:
        word = random_source.choice(words)
        return [] if engine.query(spec, Query(word, limit=1)).total else [word]

    return Reader(read)


def disturb(world: World, seed: int) -> None:
    """Change people of odd ids only: placements, memberships, derived rows."""
    random_source = random.Random(seed)
    for people in ([random_source.randrange(1, PEOPLE, 2) for _ in range(150)] for _ in range(3)):
        world.execute(sa.delete(t.PersonTrust).where(t.PersonTrust.c.personId.in_(people[:50])))
        world.execute(sa.delete(t.PersonOwner).where(t.PersonOwner.c.id.in_(people[50:100])))
        world.execute(
            sa.update(t.ContactDetails)
            .where(t.ContactDetails.c.id.in_(people[100:]))
            .values(surname=f"Changed{seed}")
        )


@pytest.mark.parametrize("kind", ["elasticsearch", "opensearch"])
def test_readers_never_miss_a_row_or_a_document(
    mariadb_tcs: World, search_url: SearchUrl, tmp_path: Path, kind: str
) -> None:
    world, url = mariadb_tcs, search_url(kind)
    demo.generate(world.database, demo.Size(PEOPLE), TODAY, legacy_tables)
    settings = Settings(home=tmp_path, tcs_url=world.url, search_url=url, guard_share=1.0)
    with working(settings) as services:
        assert run_night(services)[0].state == "succeeded"
        contacts = {row[0] for row in world.rows(t.ContactDetails, "id")}
        people = [
            str(6_000_000 + n)
            for (n,) in world.rows(t.GmcDetails, "id")
            if n in contacts and n % 2 == 0
        ]
        posts = [f"{npn}" for (npn,) in world.rows(t.Post, "nationalPostNumber")]
        readers = [table_reader(world, table, columns) for table, columns in TABLES]
        readers.append(index_reader(url, tmp_path, "persons", people))
        readers.append(index_reader(url, tmp_path, "posts", posts))
        for reader in readers:
            reader.start()
        for number in range(ROUNDS):
            disturb(world, number)
            assert run_night(services)[0].state == "succeeded"
            for job in (
                "PersonOwnerRebuildJob",
                "PersonPlacementEmployingBodyTrustJob",
                "PostEmployingBodyTrustJob",
                "PersonElasticSearchSyncJob",
                "PostElasticSearchSyncJob",
            ):
                (run,) = run_job(services, job, rebuild=True, follow_ups=False)
                assert run.state == "succeeded"
        time.sleep(0.1)
        for reader in readers:
            reader.stop.set()
            reader.join(30)
    for reader in readers:
        assert reader.failure is None
        assert reader.missing == []
    counts = [reader.reads for reader in readers]
    print(f"reads: {counts}")
    assert min(counts) > 300
    assert sum(counts) > 5000
