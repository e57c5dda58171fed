"""Sessions follow the provider: roles, sign-outs and revocations take effect, also in streams."""

import re
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from tests.cli.conftest import Program, program
from tests.oidc import PEOPLE, OidcProvider, provider, sign_in
from tests.web.conftest import Clock, Console, console
from tests.world import World
from tis_sync import audit
from tis_sync.alarms.catalogue import FAILED
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.state import web_tables as t
from tis_sync.web.auth import sessions, tokens

__all__ = ["program"]
VIEW, UPDATE = "/sync/api/v1/jobs", "/sync/api/v1/runs/none/cancel"
OURS = {"Sec-Fetch-Site": "same-origin"}
CUT_SECONDS = 20.0


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, oidc: OidcProvider) -> Iterator[OidcProvider]:
    """A provider of this module, whose people and answers the tests change."""
    yield from provider(tmp_path_factory.mktemp("provider"))


@pytest.fixture(autouse=True)
def people(own: OidcProvider) -> None:
    own.set_people(PEOPLE)


@pytest.fixture
def s(embedded_tcs: World, tmp_path: Path, own: OidcProvider, clock: Clock) -> Iterator[Services]:
    settings = Settings(
        home=tmp_path, tcs_url=embedded_tcs.url, oidc_timeout_seconds=1.0, **own.settings()
    )
    services = Services(settings, clock)
    yield services
    services.close()


@pytest.fixture
def call(s: Services, own: OidcProvider) -> Iterator[Console]:
    with console(s, own.console_port) as answering:
        yield answering


@contextmanager
def signed_in(call: Console, name: str = "olga") -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=call.url, timeout=30) as client:
        assert sign_in(client, "/sync/", name).status_code == 200
        yield client


def cookie(browser: httpx2.Client) -> dict[str, str]:
    """The cookie of its session."""
    return {sessions.COOKIE: browser.cookies[sessions.COOKIE]}


def roles(s: Services) -> list[set[str]]:
    return [set(session.caller.roles) for session in sessions.open_sessions(s.state, s.clock())]


def actions(s: Services) -> list[tuple[str, str]]:
    return [(entry.actor, entry.action) for entry in reversed(audit.entries(s.state))]


def test_a_role_that_is_withdrawn_at_the_provider_is_gone_at_the_next_check(
    call: Console, s: Services, own: OidcProvider, clock: Clock
) -> None:
    with signed_in(call) as browser:
        assert browser.post(UPDATE, headers=OURS).status_code == 404
        own.set_people(PEOPLE | {"olga": ["tis-sync-view"]})
        clock.forward(minutes=14)
        assert browser.post(UPDATE, headers=OURS).status_code == 404
        clock.forward(minutes=2)
        assert browser.post(UPDATE, headers=OURS).status_code == 403
        assert browser.get(VIEW).status_code == 200
    assert roles(s) == [{"view", "metrics"}]
    assert ("olga", "change roles") in actions(s)


def test_a_role_that_is_given_at_the_provider_counts_at_the_next_check(
    call: Console, own: OidcProvider, clock: Clock
) -> None:
    with signed_in(call, "victor") as browser:
        own.set_people(PEOPLE | {"victor": ["tis-sync-update"]})
        clock.forward(minutes=16)
        assert browser.post(UPDATE, headers=OURS).status_code == 404


@pytest.mark.parametrize("left", [{"olga": []}, {}], ids=["no role", "no account"])
def test_a_person_who_may_do_nothing_any_more_is_signed_out_at_the_next_check(
    call: Console, s: Services, own: OidcProvider, clock: Clock, left: dict[str, list[str]]
) -> None:
    with signed_in(call) as browser:
        own.set_people(left)
        clock.forward(minutes=16)
        assert browser.get(VIEW).status_code == 401
        page = browser.get("/sync/")
        assert page.headers["location"] == "/sync/signin?next=/sync/"
    assert roles(s) == []
    assert actions(s)[-1] == ("olga", "end session")


def test_many_requests_ask_the_provider_once(
    call: Console, s: Services, own: OidcProvider, clock: Clock
) -> None:
    """A refresh token that is used twice ends the session at this provider."""
    answers: list[int] = []
    with signed_in(call) as browser:
        cookies = cookie(browser)
        for _ in range(3):
            clock.forward(minutes=16)
            threads = [
                threading.Thread(
                    target=lambda: answers.append(
                        httpx2.get(call.url + VIEW, cookies=cookies, timeout=30).status_code
                    )
                )
                for _ in range(20)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
    assert answers == [200] * 60
    (session,) = sessions.open_sessions(s.state, s.clock())
    assert session.checked_at == s.clock()


def test_while_the_provider_hangs_sessions_continue_for_an_hour(
    call: Console, own: OidcProvider, clock: Clock
) -> None:
    with signed_in(call) as browser:
        with own.hanging():
            clock.forward(minutes=16)
            assert browser.get(VIEW).status_code == 200
            start = time.monotonic()
            assert browser.get(VIEW).status_code == 200  # the provider is not asked each time
            assert time.monotonic() - start < 0.9
            clock.forward(minutes=45)
            refused = browser.get(VIEW)
            assert (refused.status_code, own.issuer in refused.text) == (503, True)
        # The provider may have answered a question too late, and accepts each refresh token once.
        # The person is still signed in there, and has nothing to do.
        clock.forward(minutes=2)
        page = browser.get("/sync/runs", follow_redirects=True)
        assert (page.status_code, "olga" in page.text) == (200, True)


def test_without_refresh_tokens_the_browser_is_led_through_the_provider_again(
    call: Console, s: Services, own: OidcProvider, clock: Clock
) -> None:
    own.refresh_tokens = False
    own.restart()
    try:
        with signed_in(call) as browser:
            first = browser.cookies[sessions.COOKIE]
            clock.forward(minutes=16)
            assert browser.get(VIEW).status_code == 401
            # The person is still signed in at the provider, which therefore asks nothing.
            page = browser.get("/sync/runs", follow_redirects=True)
            assert (page.status_code, "olga" in page.text) == (200, True)
            assert browser.cookies[sessions.COOKIE] != first
            assert len(sessions.open_sessions(s.state, s.clock())) == 1
    finally:
        own.refresh_tokens = True
        own.restart()


def test_a_second_sign_in_ends_the_first_session_of_the_browser(call: Console, s: Services) -> None:
    with signed_in(call) as browser:
        first = browser.cookies[sessions.COOKIE]
        sign_in(browser, "/sync/signin", "olga")
        assert browser.cookies[sessions.COOKIE] != first
        assert browser.get(VIEW).status_code == 200
    assert httpx2.get(call.url + VIEW, cookies={sessions.COOKIE: first}).status_code == 401
    assert len(sessions.open_sessions(s.state, s.clock())) == 1


def test_nothing_in_the_database_opens_a_session_or_refreshes_one(
    call: Console, s: Services
) -> None:
    with signed_in(call) as browser:
        secret = browser.cookies[sessions.COOKIE]
    (session,) = sessions.open_sessions(s.state, s.clock())
    token = sessions.refresh_token_of(session, secret)
    assert token is not None
    with s.state.read() as connection:
        stored = str(connection.execute(sa.select(t.session)).all())
    assert secret not in stored
    assert token not in stored
    assert sessions.refresh_token_of(session, session.id) is None


def follow(call: Console, path: str, ended: list[float], **options: Any) -> threading.Thread:
    """Follow a stream in a thread, which notes when the stream ended; return once it has begun."""
    begun = threading.Event()

    def run() -> None:
        with httpx2.stream("GET", f"{call.url}/sync{path}", timeout=60, **options) as response:
            assert response.status_code == 200
            for _ in response.iter_lines():
                begun.set()
        ended.append(time.monotonic())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert begun.wait(30)
    return thread


def test_live_updates_end_at_sign_out(call: Console) -> None:
    ended: list[float] = []
    with signed_in(call) as browser:
        thread = follow(call, "/live/tonight", ended, cookies=cookie(browser))
        browser.post("/sync/signout", headers=OURS)
        thread.join(CUT_SECONDS)
    assert ended


def test_events_after_a_sign_out_are_not_sent(call: Console, s: Services) -> None:
    seen: list[str] = []
    ready = threading.Event()
    with signed_in(call) as browser:
        cookies = cookie(browser)

        def run() -> None:
            url = f"{call.url}/sync/live/tonight"
            with httpx2.stream("GET", url, cookies=cookies, timeout=60) as response:
                for line in response.iter_lines():
                    seen.append(line)
                    ready.set()

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        assert ready.wait(30)
        browser.post("/sync/signout", headers=OURS)
    opened = time.monotonic()
    while thread.is_alive() and time.monotonic() - opened < CUT_SECONDS:
        s.alarms.open(FAILED, f"after {time.monotonic()}", "x", s.clock(), impact="x")
        thread.join(0.7)
    assert not thread.is_alive()
    late = [float(moment) for line in seen for moment in re.findall(r"after ([\d.]+)", line)]
    # A look-up of the caller is good for two seconds.
    assert max(late, default=opened) - opened < 4


def test_live_updates_end_when_a_token_is_revoked(call: Console, s: Services) -> None:
    secret = tokens.create(s.state, "screen", "view", 1, "test", s.clock())
    ended: list[float] = []
    thread = follow(call, "/live/tonight", ended, headers={"Authorization": f"Bearer {secret}"})
    tokens.revoke(s.state, "screen", s.clock())
    thread.join(CUT_SECONDS)
    assert ended


def test_live_updates_end_when_roles_change_and_continue_for_others(
    call: Console, own: OidcProvider, clock: Clock
) -> None:
    ended: list[float] = []
    others: list[float] = []
    with signed_in(call) as browser, signed_in(call, "vera") as other:
        thread = follow(call, "/live/tonight", ended, cookies=cookie(browser))
        follow(call, "/live/tonight", others, cookies=cookie(other))
        own.set_people(PEOPLE | {"olga": ["tis-sync-view"]})
        clock.forward(minutes=16)
        thread.join(CUT_SECONDS)
        assert ended
        assert others == []
        assert other.get(VIEW).status_code == 200


def test_sessions_are_listed_and_ended_on_the_command_line(
    call: Console, s: Services, clock: Clock, program: Program
) -> None:
    home = {"home": s.settings.home, "clock_offset_seconds": 0}  # the machine's clock
    ended: list[float] = []
    with ExitStack() as stack, signed_in(call) as olga, signed_in(call) as again:
        clock.forward(seconds=1)
        vera = stack.enter_context(signed_in(call, "vera"))
        listed = program("session", "list", "--json", **home).json
        assert [(one["user"], one["roles"]) for one in listed] == [
            ("vera", ["personal", "view"]),
            ("olga", ["personal", "update", "view"]),
            ("olga", ["personal", "update", "view"]),
        ]
        text = program("session", "list", **home).out
        for browser in (olga, vera):
            assert browser.cookies[sessions.COOKIE] not in text
        thread = follow(call, "/live/tonight", ended, cookies=cookie(vera))
        done = program("session", "end", listed[0]["id"][:8], **home)
        assert (done.code, "vera" in done.out) == (0, True)
        thread.join(CUT_SECONDS)
        assert ended
        assert vera.get(VIEW).status_code == 401
        assert olga.get(VIEW).status_code == 200
        assert program("session", "end", "--user", "olga", **home).code == 0
        assert olga.get(VIEW).status_code == again.get(VIEW).status_code == 401
    assert [entry.subject for entry in audit.entries(s.state) if entry.action == "end session"]


def test_ending_a_session_that_is_not_there_is_an_error_that_says_what_to_do(
    call: Console, s: Services, program: Program
) -> None:
    home = {"home": s.settings.home, "clock_offset_seconds": 0}
    with signed_in(call):
        unknown = program("session", "end", "0000000000", **home)
        assert (unknown.code, "session list" in unknown.err) == (2, True)
        nobody = program("session", "end", "--user", "nobody", **home)
        assert (nobody.code, "nobody" in nobody.err) == (2, True)
        short = program("session", "end", "", **home)
        assert short.code == 2
        nothing = program("session", "end", **home)
        assert (nothing.code, "--user" in nothing.err) == (2, True)
        assert len(sessions.open_sessions(s.state, s.clock())) == 1
        assert program("session", "end", "--all", **home).code == 0
        assert sessions.open_sessions(s.state, s.clock()) == []
        assert program("session", "end", "--all", **home).code == 0
