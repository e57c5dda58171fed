"""S13: the same person twice in search, because TCS writes documents beside those of the night."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.conftest import TODAY, SearchUrl
from tests.proxy import proxy
from tests.running import run_job, working
from tests.search_server import behind, send, tcs_saves_person
from tests.world import World
from tis_sync.app import examine
from tis_sync.demo import generate as demo
from tis_sync.jobs.catalogue import job_named
from tis_sync.jobs.person_index import PERSONS
from tis_sync.runs import partition
from tis_sync.runs.request import request_night, request_run
from tis_sync.runs.run import RunOptions, Trigger
from tis_sync.runs.services import Services
from tis_sync.search.model import Query
from tis_sync.settings.model import Settings
from tis_sync.tcs import tables as t
from tis_sync.tcs.key_ranges import ALL_KEYS

pytestmark = pytest.mark.servers
JOB = "PersonElasticSearchSyncJob"
SERVERS = pytest.mark.parametrize("kind", ["elasticsearch", "opensearch"])
PEOPLE = 300


def edit(address: str, world: World, person: int, surname: str) -> None:
    """Edit a person in TCS, which writes both its database and the index."""
    changed = sa.update(t.ContactDetails).where(t.ContactDetails.c.id == person)
    world.execute(changed.values(surname=surname))
    tcs_saves_person(address, person, surname)


def surnames(services: Services, person: int) -> list[str]:
    """The surnames of the documents that search finds for a person."""
    where = {"query": {"term": {"personId": person}}, "size": 100}
    address = services.settings.search().partition("+")[2]
    hits = send(address, "POST", "/persons/_search", where)["hits"]["hits"]
    return [hit["_source"]["surname"] for hit in hits]


def is_right(services: Services) -> bool:
    """Whether a dry run finds nothing to do, which is what `tis-sync verify` asks."""
    (run,) = run_job(services, JOB, dry_run=True)
    return run.state == "succeeded" and run.written == 0


def counts(services: Services, people: list[int]) -> dict[int, int]:
    return {person: len(surnames(services, person)) for person in people}


@pytest.fixture
def world(embedded_tcs: World) -> World:
    demo.generate(embedded_tcs.database, demo.Size(PEOPLE), TODAY)
    return embedded_tcs


def settings_of(world: World, home: Path, url: str, **others: Any) -> Settings:
    # Narrow partitions: an edited person is not in the partition that finds foreign documents.
    return Settings(
        home=home, tcs_url=world.url, search_url=url, partition_keys=64, search_shards=3, **others
    )


@SERVERS
def test_a_person_edited_in_tcs_is_in_search_once_after_the_next_run(
    world: World, search_url: SearchUrl, tmp_path: Path, kind: str
) -> None:
    with working(settings_of(world, tmp_path, search_url(kind))) as services:
        (first,) = run_job(services, JOB)
        address = services.settings.search().partition("+")[2]
        edited = [5, 100, PEOPLE - 3]
        before = counts(services, edited)
        for person in edited:
            edit(address, world, person, "Edited")
        (dry,) = run_job(services, JOB, dry_run=True)
        assert (dry.added, dry.removed) == (sum(before.values()), len(edited))
        assert len(dry.detail.sample["duplicates"]) == len(edited)
        (persons,) = [f for f in examine(services, {"search"}) if f.name == "index persons"]
        assert persons.message.endswith(" documents, 3 of them written by others")
        live = services.search().live(PERSONS)
        assert live is not None
        assert first.size is not None
        assert dry.added is not None
        assert live.foreign == 3
        assert live.documents == first.size - dry.added + 3
        assert live.own_documents == first.size - dry.added
        (run,) = run_job(services, JOB)
        assert run.state == "succeeded"
        assert (run.removed, run.detail.duplicates) == (len(edited), len(edited))
        assert run.size == first.size
        assert counts(services, edited) == before
        assert surnames(services, 5) == ["Edited"] * before[5]
        assert services.search().query(PERSONS, Query("")).total == first.size
        assert is_right(services)


@SERVERS
def test_only_documents_of_others_are_no_reason_to_hold_the_run(
    world: World, search_url: SearchUrl, tmp_path: Path, kind: str
) -> None:
    settings = settings_of(world, tmp_path, search_url(kind), guard_rows=0, guard_share=0.0)
    with working(settings) as services:
        (first,) = run_job(services, JOB)
        address = services.settings.search().partition("+")[2]
        for number in range(30):
            stray = {"personId": number, "surname": "Stray"}
            send(
                address,
                "POST",
                "/persons/_doc/%22a%5C%22?refresh=true".replace("a", f"a{number}"),
                stray,
            )
        send(address, "POST", "/persons/_doc?refresh=true", {"text": "no person at all"})
        (run,) = run_job(services, JOB)
        assert (run.state, run.removed, run.size) == ("succeeded", 31, first.size)
        assert services.search().query(PERSONS, Query("")).total == first.size
        assert is_right(services)


def test_a_new_index_without_the_documents_of_others_is_not_held(
    world: World, elasticsearch: str, search_url: SearchUrl, tmp_path: Path
) -> None:
    url = search_url("elasticsearch")
    settings = settings_of(world, tmp_path, url, guard_rows=0, guard_share=0.0)
    with working(settings) as services:
        (first,) = run_job(services, JOB)
        for number in range(30):
            stray = {"personId": number, "surname": "Stray"}
            send(elasticsearch, "POST", "/persons/_doc?refresh=true", stray)
        (run,) = run_job(services, JOB, rebuild=True)
        assert (run.state, run.size) == ("succeeded", first.size)
        assert is_right(services)


@SERVERS
def test_a_document_of_ours_in_the_wrong_place_is_corrected(
    world: World, search_url: SearchUrl, tmp_path: Path, kind: str
) -> None:
    with working(settings_of(world, tmp_path, search_url(kind))) as services:
        (first,) = run_job(services, JOB)
        address = services.settings.search().partition("+")[2]
        (index,) = behind(address, "persons")
        found = send(address, "POST", "/persons/_search", {"size": 1000, "sort": ["personId"]})
        documents = {hit["_id"]: hit["_source"] for hit in found["hits"]["hits"]}
        near, far, bare, odd = list(documents)[3], list(documents)[4], list(documents)[5], "x"
        for name, changes in {
            near: {"bucket": documents[near]["tisSync"]["bucket"] + 1},
            far: {"bucket": 17},
            bare: {"hash": None},
            odd: {"bucket": 9},
        }.items():
            body = documents.get(name, documents[near])
            body = body | {"tisSync": body["tisSync"] | changes}
            send(address, "PUT", f"/{index}/_doc/{name}?refresh=true", body)
        for name in list(documents)[6:8]:  # ours, overwritten by somebody under the same id
            send(address, "PUT", f"/{index}/_doc/{name}?refresh=true", {"surname": "?"})
        (run,) = run_job(services, JOB)
        assert (run.state, run.error) == ("succeeded", None)
        assert services.search().query(PERSONS, Query("")).total == first.size
        assert is_right(services)


class Edits:
    """Edits a person in TCS when the first chunk of the next run passes through a proxy."""

    def __init__(self, address: str, world: World) -> None:
        self.address, self.world = address, world
        self.pending: list[tuple[int, str]] = []

    def __call__(self, _: bytes) -> str:
        while self.pending:
            edit(self.address, self.world, *self.pending.pop())
        return "none"


@SERVERS
@pytest.mark.parametrize("rebuild", [True, False], ids=["build", "in place"])
def test_an_edit_during_a_run_is_in_search_when_everything_has_ended(
    request: pytest.FixtureRequest,
    world: World,
    search_url: SearchUrl,
    tmp_path: Path,
    kind: str,
    rebuild: bool,
) -> None:
    server = request.getfixturevalue(kind)
    search_url(kind)
    edits = Edits(server, world)
    with (
        proxy(server, edits) as (address, _),
        working(settings_of(world, tmp_path, f"{kind}+{address}")) as services,
    ):
        assert [run.state for run in run_job(services, JOB)] == ["succeeded"]
        people = [5, 100, 200]
        before = counts(services, people)
        edit(server, world, 5, "Early")
        edit(server, world, 200, "Early")
        edits.pending += [(200, "Late"), (100, "Late")]
        runs = run_job(services, JOB, rebuild=rebuild)
        assert edits.pending == []
        assert [run.state for run in runs] == ["succeeded"] * 2
        assert runs[1].trigger == Trigger.FOLLOW_UP
        assert counts(services, people) == before
        assert surnames(services, 5) == ["Early"] * before[5]
        assert surnames(services, 100) == ["Late"] * before[100]
        assert surnames(services, 200) == ["Late"] * before[200]
        assert is_right(services)


def test_nothing_follows_a_run_during_which_nobody_wrote(
    world: World, search_url: SearchUrl, tmp_path: Path
) -> None:
    with working(settings_of(world, tmp_path, search_url("elasticsearch"))) as services:
        for options in ({}, {"rebuild": True}, {}):
            world.execute(sa.update(t.ContactDetails).values(forenames=f"F{len(options)}"))
            assert len(run_job(services, JOB, **options)) == 1


def test_edits_that_never_end_cause_only_one_more_run(
    elasticsearch: str, world: World, search_url: SearchUrl, tmp_path: Path
) -> None:
    search_url("elasticsearch")
    count = iter(range(1000))

    def choose(_: bytes) -> str:
        edit(elasticsearch, world, 150 + next(count), "Always")
        return "none"

    with proxy(elasticsearch, lambda _: "none") as (address, _):
        settings = settings_of(world, tmp_path, f"elasticsearch+{address}")
        with working(settings) as services:
            run_job(services, JOB)
    with proxy(elasticsearch, choose) as (address, _):
        settings = settings_of(world, tmp_path, f"elasticsearch+{address}")
        with working(settings) as services:
            edit(elasticsearch, world, 5, "Early")
            assert [run.state for run in run_job(services, JOB)] == ["succeeded"] * 2


def test_an_index_job_does_not_use_what_other_jobs_of_the_night_have_read(
    world: World, tmp_path: Path
) -> None:
    with working(Settings(home=tmp_path, tcs_url=world.url)) as services:
        run_job(services, JOB)
        night = request_night(
            services, trigger=Trigger.MANUAL, requested_by="t", options=RunOptions()
        )
        owner, index = (
            request_run(
                services,
                job_named(name),
                trigger=Trigger.NIGHT,
                requested_by="t",
                options=RunOptions(),
                parent=night.id,
            )
            for name in ("PersonOwnerRebuildJob", JOB)
        )
        partition.plan(services, owner, ALL_KEYS, None)
        live = services.search().live(PERSONS)
        assert live is not None
        assert partition.plan(services, index, ALL_KEYS, live.name).writes == 0
        services.workspaces.drop(index.id)
        world.execute(sa.delete(t.ProgrammeMembership))
        assert partition.plan(services, index, ALL_KEYS, live.name).changed > 0
