"""All three search engines behave in the same way."""

import json
from pathlib import Path
from urllib.request import Request, urlopen

import polars as pl
import pytest

from tests.conftest import SearchUrl
from tests.servers.documents import FORM, SPEC, build, people, person, views
from tis_sync.errors import SchemaError, TisSyncError, UnreachableError, UsageError
from tis_sync.reconcile.index_plan import difference
from tis_sync.search.connect import connect
from tis_sync.search.documents import encode
from tis_sync.search.model import Query, SearchEngine
from tis_sync.settings.model import Settings
from tis_sync.tcs.key_ranges import ALL_KEYS, KeyRange

pytestmark = pytest.mark.servers
QUERIES = [
    Query("mul"),
    Query("Müller zoe"),
    Query("o'brien"),
    Query("brien o marie"),
    Query("田"),
    Query("吉田"),
    Query("𠮷田"),
    Query("smith-jones"),
    Query("600001"),
    Query("12"),
    Query("nobody"),
    Query(""),
    Query("   "),
    Query("", (("owner", "Wessex"),)),
    Query("", (("status", "CURRENT"), ("trust", "3"))),
    Query("", (("programme", "2"),)),
    Query("", (("programme", "Programme 3"),)),
    Query("", (("placementType", "In post"), ("grade", "ST1"))),
    Query("", (("grade", "1"), ("site", "2"))),
    Query("ève", (("site", "RAB2"), ("owner", "Thames Valley"))),
    Query("", (("trust", "100"),), limit=3),
    Query("", (("status", "current"),)),
]


def test_all_three_engines_give_the_same_answers_for_the_same_data(
    search_url: SearchUrl, tmp_path: Path
) -> None:
    frame = people(200)
    answers = []
    for kind in ("embedded", "elasticsearch", "opensearch"):
        engine = connect(Settings(home=tmp_path, search_url=search_url(kind)))
        engine.check()
        build(engine, frame, "one")
        answers.append([engine.query(SPEC, query) for query in QUERIES])
    for query, *hits in zip(QUERIES, *answers, strict=True):
        assert hits[0] == hits[1] == hits[2], query
    totals = {query: hits.total for query, hits in zip(QUERIES, answers[0], strict=True)}
    assert totals[Query("mul")] == 50
    assert totals[Query("nobody")] == 0
    assert totals[Query("")] == 200
    assert totals[Query("", (("status", "CURRENT"), ("trust", "3")))] == 14


def test_a_query_returns_a_document_as_its_view(search: SearchEngine) -> None:
    view = person(7, role='quo"te \\ back', status=None, trusts=[], programmeMemberships=[])
    build(search, views([view]), "one")
    (found,) = search.query(SPEC, Query("6000007")).documents
    assert found == {name: view[name] for name in FORM.fields}


def test_readers_see_nothing_of_a_build_before_it_is_published(search: SearchEngine) -> None:
    with pytest.raises(SchemaError, match="There is no index persons yet"):
        search.query(SPEC, Query(""))
    build(search, people(5), "old")
    index = search.begin(SPEC, "new")
    search.write(index, [encode(people(50), FORM)])
    assert search.refresh(index) == 50
    assert search.query(SPEC, Query("")).total == 5
    search.publish(SPEC, index)
    assert search.query(SPEC, Query("")).total == 50


def test_the_previous_index_is_kept_and_older_ones_are_dropped(search: SearchEngine) -> None:
    names = [build(search, people(count), f"b{count}") for count in (1, 2, 3)]
    assert [search.exists(SPEC, name) for name in names] == [False, True, True]
    live = search.live(SPEC)
    assert live is not None
    assert (live.name, live.ours, live.version, live.documents) == (names[2], True, SPEC.version, 3)
    search.publish(SPEC, names[2])
    assert [search.exists(SPEC, name) for name in names] == [False, True, True]


def test_a_restarted_build_continues(search: SearchEngine) -> None:
    index = search.begin(SPEC, "one")
    search.write(index, [encode(people(20), FORM)])
    assert search.begin(SPEC, "one") == index
    search.write(index, [encode(people(20), FORM)])
    assert search.refresh(index) == 20
    search.drop(SPEC, index)
    assert not search.exists(SPEC, index)
    search.drop(SPEC, index)


def test_only_what_differs_is_planned_and_applying_it_corrects_the_index(
    search: SearchEngine,
) -> None:
    index = build(search, people(100), "one")
    assert difference(search, index, people(100), FORM, ALL_KEYS).is_empty
    desired = views(
        [person(n) for n in range(3, 100)]
        + [person(40, documentId="40-7"), person(200, surname="New")]
    ).with_columns(
        status=pl.when(pl.col("personId") == 50).then(pl.lit("DELETE")).otherwise("status")
    )
    plan = difference(search, index, desired, FORM, ALL_KEYS)
    assert sorted(plan.added["id"]) == ["200", "40-7"]
    assert plan.changed["id"].to_list() == ["50"]
    assert sorted(plan.removed["id"]) == ["1", "100", "2"]
    assert (plan.considered, plan.existing) == (99, 100)
    search.write(index, [plan.added, plan.changed], plan.removed)
    assert search.refresh(index) == 99
    assert difference(search, index, desired, FORM, ALL_KEYS).is_empty


def test_a_partition_is_compared_on_its_own(search: SearchEngine) -> None:
    index = build(search, people(100), "one")
    middle = views([person(n) for n in range(32, 64)])
    assert difference(search, index, middle, FORM, KeyRange(32, 64)).is_empty
    first = views([person(n) for n in range(2, 32)])
    assert difference(search, index, first, FORM, KeyRange(None, 32)).removed["id"].to_list() == [
        "1"
    ]
    last = views([person(n) for n in range(64, 102)])
    assert difference(search, index, last, FORM, KeyRange(64, None)).added["id"].to_list() == [
        "101"
    ]


def test_an_index_of_the_java_service_is_replaced_in_one_step(
    elasticsearch: str, search_url: SearchUrl, tmp_path: Path
) -> None:
    url = search_url("elasticsearch")
    engine = connect(Settings(home=tmp_path, search_url=url))
    body = json.dumps({"personId": 1}).encode()
    headers = {"content-type": "application/json"}
    old = Request(f"{elasticsearch}/persons/_doc/x?refresh=true", body, headers, method="PUT")
    urlopen(old).close()
    live = engine.live(SPEC)
    assert live is not None
    assert (live.name, live.ours, live.documents) == ("persons", False, 1)
    index = build(engine, people(3), "one")
    live = engine.live(SPEC)
    assert live is not None
    assert (live.name, live.ours, live.documents) == (index, True, 3)


def test_a_document_that_the_server_refuses_costs_only_that_document(
    elasticsearch: str, search_url: SearchUrl, tmp_path: Path
) -> None:
    engine = connect(Settings(home=tmp_path, search_url=search_url("elasticsearch")))
    index = engine.begin(SPEC, "one")
    documents = encode(people(3), FORM).with_columns(
        body=pl.when(pl.col("id") == "2")
        .then(pl.col("body").str.replace('"gradeId":2', '"gradeId":"two"', literal=True))
        .otherwise("body")
    )
    delivery = engine.write(index, [documents])
    ((refused, reason),) = delivery.refused
    assert (refused, delivery.written) == ("2", 2)
    assert "gradeId" in reason


def test_a_chunk_never_creates_an_index_by_accident(
    elasticsearch: str, search_url: SearchUrl, tmp_path: Path
) -> None:
    engine = connect(Settings(home=tmp_path, search_url=search_url("elasticsearch")))
    with pytest.raises(TisSyncError, match="the index no longer exists"):
        engine.write("persons-never-begun", [encode(people(3), FORM)])
    assert not engine.exists(SPEC, "persons-never-begun-write")


@pytest.mark.parametrize(
    ("kind", "configured", "message"),
    [
        ("elasticsearch", "opensearch", "this is Elasticsearch 8.* begins with elasticsearch"),
        ("opensearch", "elasticsearch", "OpenSearch|version . is not supported"),
    ],
)
def test_a_server_of_the_other_product_is_named(
    request: pytest.FixtureRequest, tmp_path: Path, kind: str, configured: str, message: str
) -> None:
    address = request.getfixturevalue(kind)
    engine = connect(Settings(home=tmp_path, search_url=f"{configured}+{address}"))
    with pytest.raises(SchemaError, match=message):
        engine.check()


@pytest.mark.parametrize("product", ["elasticsearch", "opensearch"])
def test_a_server_that_does_not_answer_is_named(product: str, tmp_path: Path) -> None:
    engine = connect(Settings(home=tmp_path, search_url=f"{product}+http://127.0.0.1:9"))
    with pytest.raises(UnreachableError, match=r"at http://127.0.0.1:9 does not answer"):
        engine.check()


@pytest.mark.parametrize(
    "url", ["http://x", "solr+http://x", "opensearch+ftp://x", "opensearch+http://"]
)
def test_an_unsupported_search_url_is_a_usage_error(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="TIS_SYNC_SEARCH_URL is not a search URL"):
        connect(Settings(home=tmp_path, search_url=url))
