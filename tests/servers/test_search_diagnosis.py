"""The page "Not in search?" compares a document with what it should say, on every search engine."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.conftest import TODAY, SearchUrl
from tests.running import run_job, working
from tests.search_server import tcs_saves_person
from tests.world import World
from tis_sync.demo import generate as demo
from tis_sync.settings.model import Settings
from tis_sync.tcs import tables as t
from tis_sync.web.presenters.search_diagnosis import Diagnosis, diagnose

JOB = "PersonElasticSearchSyncJob"
ENGINES = [
    "embedded",
    pytest.param("elasticsearch", marks=pytest.mark.servers),
    pytest.param("opensearch", marks=pytest.mark.servers),
]


@pytest.fixture
def world(embedded_tcs: World) -> World:
    demo.generate(embedded_tcs.database, demo.Size(60), TODAY)
    return embedded_tcs


def text(diagnosis: Diagnosis) -> str:
    return " ".join(diagnosis.lines)


@pytest.mark.parametrize("kind", ENGINES)
def test_a_document_that_is_out_of_date_is_said_to_be_and_its_fields_are_named(
    world: World, search_url: SearchUrl, tmp_path: Path, kind: str
) -> None:
    settings = Settings(home=tmp_path, tcs_url=world.url, search_url=search_url(kind))
    with working(settings) as services:
        run_job(services, JOB)
        (before,) = diagnose(services, "persons", "5")
        assert before.in_search
        assert before.is_current
        assert "Search matches TCS." in text(before)
        change = sa.update(t.ContactDetails).where(t.ContactDetails.c.id == 5)
        world.execute(change.values(surname="Married"))
        for query in ("5", "Married"):
            (after,) = diagnose(services, "persons", query)
            assert after.in_search
            assert not after.is_current
            assert after.differing == ["fullName", "surname"]
            assert f"The document {after.documents[0]} differs from TCS in surname, fullName." in (
                text(after)
            )
            assert f"Run {JOB}: it corrects search" in after.lines[-1]
            assert "owner" not in text(after)
        run_job(services, JOB)
        assert diagnose(services, "persons", "5")[0].is_current


def test_lists_of_objects_and_documents_that_come_and_go_are_compared(
    world: World, tmp_path: Path
) -> None:
    with working(Settings(home=tmp_path, tcs_url=world.url)) as services:
        run_job(services, JOB)
        person, placement = next(
            (int(p), int(q))
            for p, _, q in (
                name.partition("-")
                for number in range(1, 61)
                for found in diagnose(services, "persons", str(number))
                for name in found.documents
            )
            if q
        )
        world.execute(sa.insert(t.PersonTrust).values(personId=person, trustId=4711))
        (found,) = diagnose(services, "persons", str(person))
        assert found.differing == ["trusts"]
        ended = sa.update(t.Placement).where(t.Placement.c.id == placement)
        world.execute(ended.values(dateTo=t.Placement.c.dateFrom))
        (found,) = diagnose(services, "persons", str(person))
        assert not found.is_current
        assert f"Surplus documents: {person}-{placement}." in found.lines
        world.execute(sa.delete(t.ContactDetails).where(t.ContactDetails.c.id == person))
        (found,) = diagnose(services, "persons", str(person))
        assert found.in_search
        assert "Surplus documents: " in text(found)


@pytest.mark.servers
def test_documents_that_tcs_wrote_are_named(
    world: World, elasticsearch: str, search_url: SearchUrl, tmp_path: Path
) -> None:
    url = search_url("elasticsearch")
    with working(Settings(home=tmp_path, tcs_url=world.url, search_url=url)) as services:
        run_job(services, JOB)
        tcs_saves_person(elasticsearch, 5, "Edited")
        (found,) = diagnose(services, "persons", "5")
        assert found.in_search
        assert not found.is_current
        assert "wrote 1 document about it since the last run" in text(found)
        assert "missing" not in text(found)
