"""One table of fields per index defines the mapping, the documents and the filters."""

from typing import Any

import polars as pl
import pytest

from tis_sync.jobs.base import IndexTarget, Job
from tis_sync.jobs.person_index import PERSON_INDEX
from tis_sync.jobs.post_index import POST_INDEX
from tis_sync.search.model import FieldType, Filter

LONG = {"type": "long"}
KEYWORD = {"type": "keyword", "ignore_above": 8191}
SYNC = {
    "properties": {
        "hash": {"type": "long"},
        "bucket": {"type": "integer"},
        "terms": {"type": "keyword"},
        "sort": {"type": "keyword"},
    }
}
PERSONS: dict[str, Any] = {
    "personId": LONG,
    "gradeId": LONG,
    "siteId": LONG,
    "intrepidId": KEYWORD,
    "surname": KEYWORD,
    "forenames": KEYWORD,
    "gmcNumber": KEYWORD,
    "gdcNumber": KEYWORD,
    "publicHealthNumber": KEYWORD,
    "gradeAbbreviation": KEYWORD,
    "siteCode": KEYWORD,
    "placementType": KEYWORD,
    "specialty": KEYWORD,
    "role": KEYWORD,
    "currentOwner": KEYWORD,
    "currentOwnerRule": KEYWORD,
    "fullName": {"type": "text"},
    "status": {"type": "text", "fields": {"keyword": KEYWORD}},
    "trusts": {"type": "nested", "properties": {"personId": LONG, "trustId": LONG}},
    "programmeMemberships": {
        "type": "nested",
        "properties": {
            "id": LONG,
            "personId": LONG,
            "programmeId": LONG,
            "programmeName": KEYWORD,
            "programmeNumber": KEYWORD,
            "programmeMembershipStatus": KEYWORD,
        },
    },
    "tisSync": SYNC,
}
POSTS: dict[str, Any] = {
    "id": LONG,
    "primarySiteId": LONG,
    "approvedGradeId": LONG,
    "primarySpecialtyId": LONG,
    "programmeIds": LONG,
    "trustIds": LONG,
    "currentTraineeSurnames": KEYWORD,
    "currentTraineeForenames": KEYWORD,
    "nationalPostNumber": KEYWORD,
    "primarySpecialtyCode": KEYWORD,
    "primarySpecialtyName": KEYWORD,
    "programmeNames": KEYWORD,
    "fundingTypes": KEYWORD,
    "status": KEYWORD,
    "owner": KEYWORD,
    "tisSync": SYNC,
}


def target_of(job: Job) -> IndexTarget:
    assert isinstance(job.target, IndexTarget)
    return job.target


@pytest.mark.parametrize(("job", "properties"), [(PERSON_INDEX, PERSONS), (POST_INDEX, POSTS)])
def test_the_mapping_matches_the_indexes_in_use(job: Job, properties: dict[str, Any]) -> None:
    found = target_of(job).spec.properties()
    assert found == properties
    assert list(found) == list(properties), "the order is part of the version"


@pytest.mark.skipif(pl.__version__ != "2.1.0", reason="the version of an index includes Polars'")
@pytest.mark.parametrize(
    ("job", "version"), [(PERSON_INDEX, "1bbff665ee55c6b8"), (POST_INDEX, "e94b0deabd912ecc")]
)
def test_the_version_matches_the_indexes_in_use(job: Job, version: str) -> None:
    assert target_of(job).spec.version == version


@pytest.mark.parametrize("job", [PERSON_INDEX, POST_INDEX])
def test_a_document_has_the_declared_fields_in_order(job: Job) -> None:
    target = target_of(job)
    assert target.form.fields == tuple(target.spec.fields)


@pytest.mark.parametrize("job", [PERSON_INDEX, POST_INDEX])
def test_every_filter_matches_a_declared_field_of_its_type(job: Job) -> None:
    fields = target_of(job).spec.fields

    def declared(chosen: Filter, path: str) -> FieldType:
        found = fields[chosen.nested or path.removesuffix(".keyword")]
        if chosen.nested is not None:
            assert not isinstance(found, FieldType)
            found = found[path.removeprefix(f"{chosen.nested}.")]
        assert isinstance(found, FieldType)
        return found

    for chosen in target_of(job).spec.filters:
        if chosen.number is not None:
            assert declared(chosen, chosen.number) is FieldType.LONG
        if chosen.text is not None:
            as_text = declared(chosen, chosen.text)
            by_keyword = chosen.text.endswith(".keyword")
            assert as_text is (FieldType.TEXT_AND_KEYWORD if by_keyword else FieldType.KEYWORD)
