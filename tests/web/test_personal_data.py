"""Personal data are seen by those with the role personal, whose looks are recorded; no others."""

import json
import re
import time
from collections.abc import Iterator

import httpx2
import pytest
import sqlalchemy as sa

from tests.running import run_night, wait_for
from tests.web.conftest import Answer, Console
from tis_sync import audit
from tis_sync.jobs.person_index import PERSONS
from tis_sync.jobs.post_index import POSTS
from tis_sync.runs.services import Services
from tis_sync.tcs import tables as tcs
from tis_sync.web.auth import tokens
from tis_sync.web.auth.identity import Role
from tis_sync.web.presenters.personal_data import REDACTED, SEARCH_FIELDS

MARK = "Zz"  # begins every value that only those with the role personal may see
PERSONAL_FIELDS = {
    "persons": {
        "intrepidId", "surname", "forenames", "fullName", "gmcNumber", "gdcNumber",
        "publicHealthNumber",
    },
    "posts": {"currentTraineeSurnames", "currentTraineeForenames"},
}  # fmt: skip


def mark(s: Services) -> None:
    """Mark all personal data in TCS; some postcodes and one date of a placement are wrong."""

    def marked(name: str, column: sa.ColumnElement[int]) -> sa.ColumnElement[str]:
        return sa.literal(MARK + name).concat(sa.cast(column, sa.String))

    with s.tcs().write() as connection:
        contact, details = tcs.ContactDetails, tcs.PersonalDetails
        for table, names in {
            contact: ["surname", "forenames", "legalSurname", "legalForenames", "email",
                      "address1", "mobileNumber"],
            details: ["religiousBelief", "sexualOrientation", "ethnicOrigin"],
            tcs.Person: ["publicHealthNumber", "intrepidId"],
            tcs.GdcDetails: ["gdcNumber"],
        }.items():  # fmt: skip
            values = {name: marked(name, table.c.id) for name in names if name in table.c}
            connection.execute(sa.update(table).values(values))
        odd = contact.c.id % 2 == 1
        connection.execute(sa.update(contact).where(odd).values(postCode=f"{MARK}post"))
        first = connection.scalar(sa.select(sa.func.min(tcs.Placement.c.id)))
        connection.exec_driver_sql(
            f"UPDATE Placement SET dateFrom = '{MARK}date' WHERE id = {first}"
        )


@pytest.fixture
def paths(s: Services, call: Console) -> list[str]:
    """Everything that can be read by GET, once there are runs, records, files and a dry run."""
    mark(s)
    run_night(s)
    with s.tcs().write() as connection:
        contact = tcs.ContactDetails
        connection.execute(
            sa.update(contact).where(contact.c.id < 9).values(surname=f"{MARK}newname")
        )
    index = "PersonElasticSearchSyncJob"
    dry = call("POST", f"/api/v1/jobs/{index}/runs", {"dry_run": True}).json["id"]
    wait_for(s, dry)
    call("POST", "/api/v1/esr/exports", {})
    deadline = time.monotonic() + 60
    while len(call("GET", "/api/v1/esr/commands?state=done").json["items"]) < 13:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    runs = [run["id"] for run in call("GET", "/api/v1/runs").json["items"]]
    files = call("GET", "/api/v1/esr/files").json["items"]
    records = call("GET", "/api/v1/esr/records?limit=500").json["items"]
    states = {record["state"]: record["placement_id"] for record in records}
    assert set(states) >= {"EXPORTED", "INVALID_DATA"}
    placements = list(states.values())
    described = call("GET", "/api/v1/openapi.json").json["paths"]
    ids = {
        "run_id": runs,
        "name": [file["name"] for file in files if file["records"]][:3],
        "placement": placements,
        "index": ["persons", "posts"],
        "command_id": [call("GET", "/api/v1/esr/commands").json["items"][0]["id"]],
    }
    found = []
    for path, methods in described.items():
        if "get" in methods and "/search/" not in path and "/events" not in path:
            parameter = re.search(r"{(\w+)}", path)
            values = ids[parameter[1]] if parameter and "/jobs/" not in path else [index]
            if "{" not in path:
                values = [""]
            found += [re.sub(r"{\w+}", str(value), path).removeprefix("/sync") for value in values]
    pages = ["/", "/runs", "/search", "/esr", "/health", "/runbook", f"/jobs/{index}"]
    pages += [f"/runs/{run}" for run in runs] + [f"/esr/files/{name}" for name in ids["name"]]
    pages += [f"/esr?placement={placement}" for placement in placements]
    searches = ["/search?text=", "/search?index=posts&text=", "/search?text=&grade=ST3",
                "/api/v1/search/persons", "/api/v1/search/posts?limit=100"]  # fmt: skip
    return found + pages + searches


class As:
    """Sends requests with a token of a role."""

    def __init__(self, s: Services, call: Console, role: Role) -> None:
        self._call = call
        self.name = f"of {role}"
        self._secret = tokens.create(s.state, self.name, role, 1, "test", s.clock())

    def __call__(self, path: str, method: str = "GET") -> Answer:
        return self._call(method, path, authorization=f"Bearer {self._secret}")


def texts(path: str, answers: As) -> Iterator[str]:
    answer = answers(path)
    assert answer.status in {200, 400}, (path, answer.text)  # 400: the plan of a run that is none
    yield answer.text


@pytest.mark.parametrize("role", [Role.VIEW, Role.UPDATE])
def test_without_the_role_personal_nobody_sees_personal_data(
    s: Services, call: Console, paths: list[str], role: Role
) -> None:
    weak, strong = As(s, call, role), As(s, call, Role.PERSONAL)
    looked_at: set[str] = set()
    for path in paths:
        for text in texts(path, weak):
            assert MARK not in text, (path, text[text.index(MARK) - 200 :][:400])
        looked_at |= {path for text in texts(path, strong) if MARK in text}
    kinds = {re.sub(r"[0-9a-f-]{36}|DE_\w+\.DAT|\d+", "X", path) for path in looked_at}
    assert kinds >= {
        "/runs/X", "/esr", "/esr/files/X", "/esr?placement=X", "/search?text=",
        "/api/vX/esr/records", "/api/vX/esr/files/X/content", "/api/vX/esr/explain/X",
        "/api/vX/runs/X/plan", "/api/vX/search/persons", "/api/vX/search/posts?limit=X",
    }, kinds  # fmt: skip
    assert weak("/api/v1/search/persons").json["documents"][0]["surname"] == REDACTED
    assert weak("/api/v1/search/persons").json["documents"][0]["personId"] > 0
    (record, *_) = weak("/api/v1/esr/records").json["items"]
    assert record["name"] == REDACTED
    assert record["placement_id"] > 0


def test_names_and_numbers_cannot_be_guessed_by_searching(
    s: Services, call: Console, paths: list[str]
) -> None:
    assert paths
    users = [As(s, call, Role.VIEW), As(s, call, Role.UPDATE)]
    for path in (
        f"/api/v1/search/persons?text={MARK}",
        "/api/v1/search/posts?text=a",
        "/api/v1/search/persons/diagnosis?text=1",
        "/api/v1/search/posts/diagnosis?text=1",
        f"/search?text={MARK}",
        f"/search?diagnose={MARK}",
    ):
        for user in users:
            answer = user(path)
            assert answer.status == 403, path
            assert "tis-sync-personal" in answer.text, path


def test_each_look_at_personal_data_is_in_the_audit_log_without_them(
    s: Services, call: Console, paths: list[str]
) -> None:
    strong = As(s, call, Role.PERSONAL)
    for path in paths:
        before = audit.entries(s.state, 1)[0].id
        text = strong(path).text
        added = [entry for entry in audit.entries(s.state, 20) if entry.id > before]
        if MARK in text:
            assert added, path
        for entry in added:
            assert (entry.actor, entry.action) == ("token of personal", "see personal data")
            assert json.loads(entry.detail)["ids"], path
            assert MARK not in str(entry), path
    text = strong(f"/search?text={MARK}surname1").text
    assert MARK in text
    assert MARK not in str(audit.entries(s.state, 1))


def test_whoever_may_only_read_the_metrics_reads_nothing_else(
    s: Services, call: Console, paths: list[str]
) -> None:
    grafana = As(s, call, Role.METRICS)
    assert grafana("/metrics").status == 200
    for path in [*paths, "/api/v1/openapi.json", "/live/tonight"]:
        if not path.startswith(("/metrics", "/health/")):
            assert grafana(path).status == 403, path
    for path in ("/api/v1/night", "/api/v1/runs/none/cancel", "/night"):
        assert grafana(path, "POST").status == 403
        (refused,) = audit.entries(s.state, 1)
        assert (refused.action, refused.subject) == ("POST", f"/sync{path}")
        assert refused.outcome == "refused: access to the metrics only"


def test_a_live_run_shows_personal_data_as_its_page_does(
    s: Services, call: Console, paths: list[str]
) -> None:
    (dry,) = [path for path in paths if path.startswith("/api/v1/runs/") and path.endswith("/plan")
              and call("GET", path).status == 200]  # fmt: skip
    run_id = dry.split("/")[4]
    for role, is_shown in ((Role.VIEW, False), (Role.PERSONAL, True)):
        secret = tokens.create(s.state, f"live {role}", role, 1, "test", s.clock())
        answer = httpx2.get(
            f"{call.url}/sync/live/runs/{run_id}", timeout=60,
            headers={"Authorization": f"Bearer {secret}"},
        )  # fmt: skip
        assert (MARK in answer.text) == is_shown
        assert "event: end" in answer.text


def test_every_field_of_search_is_known_to_be_personal_or_harmless() -> None:
    for index in (PERSONS, POSTS):
        assert SEARCH_FIELDS[index.alias] | PERSONAL_FIELDS[index.alias] == set(index.fields)
        assert not SEARCH_FIELDS[index.alias] & PERSONAL_FIELDS[index.alias]
