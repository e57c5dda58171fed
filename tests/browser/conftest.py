"""A real browser, and the real service with demo data."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from tests.conftest import absent
from tests.oidc import OidcProvider
from tis_sync.demo import generate as demo
from tis_sync.runs.run import Run
from tis_sync.runs.services import Services, utc_now
from tis_sync.settings.model import Settings
from tis_sync.web.auth import tokens

WIDTHS = (1280, 390)
PEOPLE = 300
TIMEOUT_SECONDS = 60.0
expect.set_options(timeout=20_000)  # milliseconds; the machine does other work too


@dataclass
class Service:
    """`tis-sync serve` in a process of its own.

    Attributes:
        url: where it answers.
        s: its services, with which tests read the state and damage TCS.
        token: an API token with the role update.

    """

    url: str
    s: Services
    token: str

    def api(self, method: str, path: str, json: object = None) -> Any:
        response = httpx2.request(
            method, f"{self.url}/sync/api/v1{path}", json=json, timeout=30,
            headers={"Authorization": f"Bearer {self.token}"},
        )  # fmt: skip
        response.raise_for_status()
        return response.json()

    def run(self, job: str, **options: bool) -> Run:
        """Run a job, and wait until it and its follow-ups have ended."""
        run_id = self.api("POST", f"/jobs/{job}/runs", options)["id"]
        return self.ended(run_id)

    def ended(self, run_id: str) -> Run:
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while any(run.is_active for run in self.s.history.family(run_id)):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return self.s.history.get(run_id)


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """The Chromium of the machine; its event loop must end before other tests run DBOS."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        absent("no Chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def service(oidc: OidcProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The service, after its first night."""
    home = tmp_path_factory.mktemp("service")
    values: dict[str, Any] = {"night_start_hours": (0, 0), "guard_rows": 10, **oidc.settings()}
    s = Services(Settings(home=home, **values))
    demo.generate(s.tcs(), demo.Size(PEOPLE), utc_now().date())
    token = tokens.create(s.state, "tests", "update", 1, "tests", s.clock())
    environment = {
        **os.environ,
        "TIS_SYNC_HOME": str(home),
        "TIS_SYNC_NIGHT_START_HOURS": "[0, 0]",
        "TIS_SYNC_GUARD_ROWS": "10",
        "TIS_SYNC_OIDC_ISSUER": oidc.issuer,
        "TIS_SYNC_WEB_URL": oidc.console,
    }
    command = [sys.executable, "-m", "tis_sync", "serve", "--port", str(oidc.console_port)]
    with (home / "out").open("wb") as out:
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    try:
        created = Service(oidc.console, s, token)
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while True:
            try:
                night = created.api("POST", "/night")["id"]
                break
            except httpx2.TransportError:
                assert process.poll() is None, (home / "out").read_text()
                assert time.monotonic() < deadline
                time.sleep(0.1)
        assert created.ended(night).state == "succeeded"
        yield created
    finally:
        process.terminate()
        process.wait(60)
        s.close()


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page in a browser of its own; an error in its console fails the test."""
    context = chromium.new_context(viewport={"width": WIDTHS[0], "height": 900})
    opened = context.new_page()
    opened.set_default_timeout(20_000)
    errors: list[str] = []

    def record(message: ConsoleMessage) -> None:
        # Errors of the provider's pages do not count.
        if message.type == "error" and "/sync/" in message.location["url"]:
            errors.append(message.text)

    opened.on("console", record)
    opened.on("pageerror", lambda error: errors.append(str(error)))
    yield opened
    context.close()
    assert errors == []


@pytest.fixture
def page_without_scripts(chromium: Browser) -> Iterator[Page]:
    """A page of a browser that runs no scripts."""
    context = chromium.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.set_default_timeout(20_000)
    yield opened
    context.close()


# The words of labels of table cells that take more than one line.
BROKEN_LABELS = """
[...document.querySelectorAll(".nhsuk-table-responsive__heading")].flatMap(label => {
  const text = label.firstChild, range = document.createRange();
  return [...text.data.matchAll(/\\S+/g)].filter(word => {
    range.setStart(text, word.index);
    range.setEnd(text, word.index + word[0].length);
    return new Set([...range.getClientRects()].map(line => line.top)).size > 1;
  }).map(word => word[0]);
})
"""


def sign_in(page: Page, service: Service, name: str) -> None:
    """Sign in at the provider, as a person does."""
    page.goto(f"{service.url}/sync/")
    page.locator("input[name=login]").fill(name)
    page.locator("input[name=password]").fill("any")
    page.locator("button[type=submit]").click()
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("heading", name="Tonight").wait_for()


def looks_right(page: Page) -> None:
    """Check the page with axe, and that nothing is cut off, on a wide and on a narrow screen."""
    for width in reversed(WIDTHS):
        page.set_viewport_size({"width": width, "height": 900})
        result = Axe().run(page)
        assert result.violations_count == 0, result.generate_report()
        overflow = page.evaluate(
            "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        )
        assert overflow <= 0, f"{page.url} is {overflow} px too wide at {width} px"
        broken = page.evaluate(BROKEN_LABELS)
        assert broken == [], f"{page.url} breaks words of labels at {width} px"
