"""Markup in the data of TCS stays text, wherever it is shown."""

import time

import sqlalchemy as sa

from tests.running import run_night
from tests.web.conftest import Console
from tis_sync.esr.calendar import london_day
from tis_sync.runs.services import Services
from tis_sync.tcs import tables as tcs

EVIL = "<img src=x onerror=alert(1)>"
NAMES = (
    (tcs.ContactDetails, ("surname", "forenames", "legalSurname", "postCode", "title", "address1")),
    (tcs.Programme, ("programmeName", "programmeNumber", "owner")),
    (tcs.Specialty, ("name", "specialtyCode")),
    (tcs.Placement, ("siteCode", "gradeAbbreviation")),
    (tcs.Post, ("owner", "status")),
    (tcs.GmcDetails, ("gmcNumber",)),
    (tcs.Person, ("status", "role", "publicHealthNumber")),
)


def test_markup_in_every_field_of_tcs_stays_text(call: Console, s: Services) -> None:
    with s.tcs().write() as connection:
        for table, columns in NAMES:
            values = {name: EVIL for name in columns if name in table.c}
            connection.execute(sa.update(table).values(values))
    run_night(s)
    commands = call("POST", "/api/v1/esr/exports", {"deaneries": ["WES", "LDN"]}).json
    deadline = time.monotonic() + 60
    while len(call("GET", "/api/v1/esr/commands?state=done").json["items"]) < len(commands):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    dry = call("POST", "/api/v1/jobs/PersonOwnerRebuildJob/runs", {"dry_run": True}).json["id"]
    files = [file["name"] for file in call("GET", "/api/v1/esr/files").json["items"]]
    records = call("GET", "/api/v1/esr/records").json["items"]
    pages = {
        "/search?text=img": True,
        "/search?index=posts&text=": True,
        "/search?diagnose=1": True,
        f"/esr?day={london_day(s.clock())}&placement={records[0]['placement_id']}": True,
        f"/runs/{dry}": False,
        **{f"/esr/files/{name}": False for name in files},
        **{f"/runs/{run.id}": False for run in s.history.recent(20)},
    }
    for path, contains_markup in pages.items():
        answer = call("GET", path)
        assert answer.status == 200, path
        assert "<img" not in answer.text, path
        assert not contains_markup or "&lt;img" in answer.text, path
