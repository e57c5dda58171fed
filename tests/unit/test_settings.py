"""Settings: each is documented in its group, and a wrong value names its variable."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from tis_sync.errors import UsageError
from tis_sync.settings.documentation import GROUPS, settings_by_group
from tis_sync.settings.loading import load_settings, unknown_settings
from tis_sync.settings.model import LogFormat, Settings
from tis_sync.workers.schedule import is_between

UNITS = ("seconds", "minutes", "hours", "days", "bytes")


def test_every_setting_is_in_one_group_and_has_a_description_in_sentences() -> None:
    groups = settings_by_group()
    assert list(groups) == list(GROUPS.values())
    listed = [setting for settings in groups.values() for setting in settings]
    assert [setting.field for setting in listed] == list(Settings.model_fields)
    for setting in listed:
        assert re.match(r"[A-Z].*\.$", setting.description), setting.name
        assert setting.name == f"TIS_SYNC_{setting.field.upper()}"


def test_a_setting_whose_name_ends_in_a_unit_names_the_unit() -> None:
    for settings in settings_by_group().values():
        for setting in settings:
            unit = setting.field.rpartition("_")[2]
            if unit in UNITS and setting.field != "night_start_hours":
                assert f"In {unit}." in setting.description, setting.name


def test_a_default_is_documented_as_text_and_empty_if_there_is_none() -> None:
    defaults = {
        setting.field: setting.default
        for settings in settings_by_group().values()
        for setting in settings
    }
    assert defaults["tcs_url"] == defaults["night_times"] == defaults["notification_urls"] == ""
    assert defaults["guard_share"] == "0.1"
    assert defaults["log_format"] == "console"


@pytest.mark.parametrize(
    ("name", "value", "reason", "form"),
    [
        ("GUARD_SHARE", "2", "less than or equal to 1", "a number, at least 0, at most 1"),
        ("DUE_MINUTES", "soon", "valid integer", "a whole number, at least 1"),
        ("JAVA_SHEDLOCK", "perhaps", "boolean", "true or false"),
        ("LOG_FORMAT", "xml", "'console' or 'json'", "console or json"),
        (
            "RECORD_STATUS_DATE_OVERRIDE",
            "yesterday",
            "is not a date of the form YYYY-MM-DD",
            "YYYY-MM-DD or ANY or NONE",
        ),
        ("ESR_NOTIFICATIONS_SINCE", "1/2/2026", "date", "a date: YYYY-MM-DD"),
        ("WEB_URL", "example.org", "pattern", "https://HOST[:PORT]"),
        ("NIGHT_TIMES", '{"PersonOwnerRebuildJob": 00:05}', "not JSON", "a JSON object of texts"),
        ("NIGHT_START_HOURS", "22-4", "not JSON", "a JSON list of two hours from 0 to 24"),
        ("NIGHT_START_HOURS", "[22, 25]", "not between 0 and 24", "such as [0, 7] or [22, 4]"),
        ("NIGHT_START_HOURS", "[22]", "required", "two hours"),
        ("ESR_LAST_NUMBERS", '{"APP": "x"}', "valid integer", "a JSON object of whole numbers"),
        ("ESR_RETRY_SECONDS", "5 15", "not JSON", "a JSON list of numbers, such as [5, 15"),
    ],
)
def test_a_wrong_value_names_its_variable_the_value_the_reason_and_the_accepted_form(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: str, form: str
) -> None:
    monkeypatch.setenv(f"TIS_SYNC_{name}", value)
    with pytest.raises(UsageError) as raised:
        load_settings()
    message = str(raised.value)
    assert message.startswith(f"TIS_SYNC_{name}={value!r} is invalid: "), message
    problem, _, accepted = message.partition(" Accepted: ")
    assert reason in problem
    assert form in accepted
    assert "\n" not in message


def test_a_wrong_value_in_the_file_is_explained_too(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TIS_SYNC_ESR_DEANERIES={oops}\n")
    with pytest.raises(UsageError, match=r"TIS_SYNC_ESR_DEANERIES='\{oops\}' is invalid"):
        load_settings()


def test_a_wrong_value_that_may_be_secret_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIS_SYNC_EXPORT_OPTIONS", '{"secret": "hunter2"')
    with pytest.raises(UsageError, match="TIS_SYNC_EXPORT_OPTIONS is invalid: it is not JSON") as e:
        load_settings()
    assert "hunter2" not in str(e.value)


@pytest.mark.parametrize(
    ("hours", "within"),
    [
        ((0, 7), range(7)),
        ((22, 4), [22, 23, 0, 1, 2, 3]),
        ((22, 24), [22, 23]),
        ((24, 4), range(4)),
        ((23, 0), [23]),
        ((0, 24), range(24)),
        ((5, 5), []),
        ((0, 0), []),
        ((24, 24), []),
    ],
)
def test_the_hours_of_the_night_may_go_across_midnight(
    hours: tuple[int, int], within: Iterable[int]
) -> None:
    assert {hour for hour in range(24) if is_between(hour, hours)} == set(within)


def test_a_misspelt_setting_is_noticed_with_the_one_that_was_meant(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TIS_SYNC_NIHGT_TIMES", "{}")
    monkeypatch.setenv("tis_sync_guard_share", "0.2")
    monkeypatch.setenv("TIS_SYNC_TEST_SERVERS", "")
    (tmp_path / ".env").write_text("TIS_SYNC_ZZZ=1\nTIS_SYNC_GUARD_ROWS=5\nOTHER=1\n")
    assert unknown_settings() == {
        "TIS_SYNC_NIHGT_TIMES": "TIS_SYNC_NIGHT_TIMES",
        "TIS_SYNC_ZZZ": None,
    }


def test_lists_of_urls_are_separated_by_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIS_SYNC_NOTIFICATION_URLS", "json://one  json://two")
    monkeypatch.setenv("TIS_SYNC_LOG_FORMAT", "json")
    settings = load_settings()
    assert settings.notification_urls == ["json://one", "json://two"]
    assert settings.log_format is LogFormat.JSON
