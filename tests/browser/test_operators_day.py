"""An operator's day, in a real browser, with the real service and demo data."""

import re

import sqlalchemy as sa
from playwright.sync_api import Page, expect

from tests.browser.conftest import Service, looks_right, sign_in
from tis_sync.alarms.catalogue import OVERDUE
from tis_sync.esr.export.commands import Commands, CommandState
from tis_sync.runs.services import Services
from tis_sync.tcs import tables as tcs

OWNER = "Person owner rebuild"


def rename(s: Services, table: str, name: str) -> None:
    with s.tcs().write() as connection:
        connection.exec_driver_sql(f'ALTER TABLE "{table}" RENAME TO "{name}"')


def ended(page: Page) -> None:
    expect(page.locator(".console-status .nhsuk-tag")).to_have_text("succeeded")


def test_an_operator_sees_a_failed_job_fixes_it_and_follows_the_run_to_its_end(
    page: Page, service: Service
) -> None:
    rename(service.s, "ProgrammeMembership", "Renamed")
    service.run("PersonOwnerRebuildJob")
    sign_in(page, service, "olga")
    expect(page.get_by_text("1 alarm is open")).to_be_visible()
    looks_right(page)

    page.get_by_role("link", name="PersonOwnerRebuildJob").first.click()
    expect(page.locator(".console-alarm")).to_contain_text("ProgrammeMembership")
    looks_right(page)
    page.get_by_role("link", name="What to do").click()
    expect(page).to_have_url(re.compile("/sync/runbook#failed"))
    looks_right(page)

    rename(service.s, "Renamed", "ProgrammeMembership")
    with service.s.tcs().write() as connection:
        connection.execute(sa.delete(tcs.PersonOwner).where(tcs.PersonOwner.c.id <= 7))
    page.goto(f"{service.url}/sync/jobs/personOwnerRebuildJob")
    looks_right(page)
    page.get_by_role("button", name="Dry run").click()
    ended(page)
    expect(page.get_by_role("heading", name="What it would write")).to_be_visible()
    expect(page.get_by_text("7 added, 0 changed, 0 removed")).to_be_visible()
    looks_right(page)
    page.get_by_role("button", name="Run now").click()
    ended(page)
    expect(page.get_by_role("heading", name="Follow-ups")).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("Person elastic.*succeeded"))).to_be_visible()
    looks_right(page)
    page.goto(f"{service.url}/sync/")
    expect(page.get_by_text("Nothing needs attention")).to_be_visible()


def test_tonight_shows_a_new_alarm_without_being_reloaded(page: Page, service: Service) -> None:
    sign_in(page, service, "vera")
    expect(page.get_by_text("Nothing needs attention")).to_be_visible()
    service.s.alarms.open(
        OVERDUE, "PersonOwnerRebuildJob", "It has not run.", service.s.clock(), impact="people wait"
    )
    expect(page.get_by_text("It has not run.")).to_be_visible()
    service.s.alarms.close(OVERDUE, "PersonOwnerRebuildJob", service.s.clock())
    expect(page.get_by_text("Nothing needs attention")).to_be_visible()


def test_search_finds_a_person_and_explains_why_another_is_not_in_search(
    page: Page, service: Service
) -> None:
    with service.s.tcs().write() as connection:
        name = connection.execute(
            sa.select(tcs.ContactDetails.c.surname, tcs.ContactDetails.c.forenames).where(
                tcs.ContactDetails.c.id == 7
            )
        ).one()
        connection.execute(sa.delete(tcs.Person).where(tcs.Person.c.id == 8))
        connection.execute(sa.delete(tcs.ContactDetails).where(tcs.ContactDetails.c.id == 9))
    service.run("PersonElasticSearchSyncJob")
    sign_in(page, service, "vera")
    page.get_by_role("link", name="Search", exact=True).click()
    looks_right(page)
    page.get_by_label("Name or number").fill(f"{name.surname} {name.forenames}")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("cell", name=re.compile(name.surname)).first).to_be_visible()
    looks_right(page)
    page.get_by_label("Person to look up").fill("9")
    page.get_by_role("button", name="Explain").click()
    expect(page.get_by_text("TCS has no contact details for this person")).to_be_visible()
    looks_right(page)
    page.get_by_label("Person to look up").fill("8")
    page.get_by_role("button", name="Explain").click()
    expect(page.get_by_text("TCS contains no person with the number or name “8”")).to_be_visible()


def test_a_deanery_is_exported_its_file_is_shown_and_a_placement_is_explained(
    page: Page, service: Service
) -> None:
    sign_in(page, service, "olga")
    page.get_by_role("link", name="ESR", exact=True).click()
    page.get_by_role("button", name="Export WES").click()
    expect(page).to_have_url(re.compile("day="))
    for _ in range(100):
        if Commands(service.s.state).in_state(CommandState.DONE):
            break
        page.wait_for_timeout(100)
    page.reload()
    looks_right(page)
    page.get_by_role("link", name=re.compile(r"APP 0+1")).click()
    expect(page.get_by_role("heading", name=re.compile("DE_WES_APP_"))).to_be_visible()
    looks_right(page)
    page.get_by_role("link", name="Back to the day").click()
    with service.s.tcs().read() as connection:
        draft = connection.scalar(
            sa.select(sa.func.min(tcs.Placement.c.id)).where(
                tcs.Placement.c.lifecycleState == "DRAFT"
            )
        )
    page.get_by_label("Placement number").fill(str(draft))
    page.get_by_role("button", name="Explain").click()
    expect(page.locator(".console-answer")).to_contain_text("Not eligible today")
    looks_right(page)


def test_a_file_with_many_columns_fits_the_page(page: Page, service: Service) -> None:
    texts = [c.name for c in tcs.EsrNotification.columns if isinstance(c.type, sa.String)]
    row = dict.fromkeys(texts, "12") | {
        "notificationTitleCode": "4",
        "managingDeaneryBodyCode": "LDN",
        "deaneryPostNumber": "LDN/RVY/126/ST6/026",
        "createdDate": service.s.clock().replace(tzinfo=None),
    }
    with service.s.tcs().write() as connection:
        connection.execute(sa.insert(tcs.EsrNotification).values(row))
    request = {"deaneries": ["LDN"], "type": "notification", "new": True}
    (requested,) = service.api("POST", "/esr/exports", request)
    for _ in range(100):
        command = Commands(service.s.state).get(requested["id"])
        if command.state == CommandState.DONE:
            break
        page.wait_for_timeout(100)
    sign_in(page, service, "vera")
    page.goto(f"{service.url}/sync/esr/files/{command.file}")
    expect(page.get_by_role("columnheader", name="Deanery post number")).to_be_visible()
    expect(page.get_by_role("cell", name="LDN/RVY/126/ST6/026").first).to_be_visible()
    looks_right(page)


def test_a_viewer_sees_every_page_and_no_button_that_changes_something(
    page: Page, service: Service
) -> None:
    sign_in(page, service, "vera")
    for path in ("/", "/runs", "/jobs/postElasticSearchSyncJob", "/search", "/esr", "/health"):
        page.goto(f"{service.url}/sync{path}")
        assert page.locator("main form[method=post]").count() == 0
        looks_right(page)
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("button", name=re.compile("Yes")).click()
    expect(page.get_by_role("heading", name="You are signed out")).to_be_visible()
    looks_right(page)
    page.goto(f"{service.url}/sync/")
    expect(page.locator("input[name=login]")).to_be_visible()


def test_the_pages_work_without_scripts(page_without_scripts: Page, service: Service) -> None:
    page = page_without_scripts
    sign_in(page, service, "olga")
    page.goto(f"{service.url}/sync/jobs/postFundingStatusSyncJob")
    page.get_by_text("Run for a date").click()
    page.get_by_label("Date").fill("2026-02-30")
    page.get_by_role("button", name="Run for this date").click()
    expect(page.get_by_text("2026-02-30")).to_be_visible()
    page.go_back()
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page).to_have_url(re.compile("/sync/runs/"))
    for _ in range(100):
        page.reload()
        if page.locator(".console-status .nhsuk-tag").inner_text() == "succeeded":
            break
        page.wait_for_timeout(100)
    ended(page)


def test_a_held_plan_is_examined_and_approved(page: Page, service: Service) -> None:
    with service.s.tcs().write() as connection:
        connection.execute(sa.delete(tcs.Placement).where(tcs.Placement.c.traineeId > 20))
    service.run("PersonPlacementEmployingBodyTrustJob")
    sign_in(page, service, "olga")
    looks_right(page)
    page.goto(f"{service.url}/sync/health")
    looks_right(page)
    page.goto(f"{service.url}/sync/")
    page.get_by_role("link", name="PersonPlacementEmployingBodyTrustJob").first.click()
    expect(page.locator(".console-status")).to_contain_text("held")
    expect(page.get_by_text("Would write")).to_be_visible()
    looks_right(page)
    page.goto(f"{service.url}/sync/jobs/personPlacementEmployingBodyTrustJob")
    expect(page.get_by_text("Held: nothing was written")).to_be_visible()
    looks_right(page)
    page.get_by_role("button", name=re.compile("Approve: remove")).click()
    ended(page)
    expect(page.locator("dl")).to_contain_text("removed")
    entry = last_entry(page, service)
    assert (entry["actor"], entry["action"]) == ("olga", "run")


def last_entry(page: Page, service: Service) -> dict[str, str]:
    newest: dict[str, str] = page.request.get(f"{service.url}/sync/api/v1/audit").json()["items"][0]
    return newest
