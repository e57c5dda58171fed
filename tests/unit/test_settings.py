"""Settings: each is documented in its group, and a wrong value names its variable."""

import re

import pytest

from tis_sync.errors import UsageError
from tis_sync.settings import GROUPS, LogFormat, Settings, load_settings, settings_by_group

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
    ("variable", "value"),
    [
        ("TIS_SYNC_GUARD_SHARE", "2"),
        ("TIS_SYNC_LOG_FORMAT", "xml"),
        ("TIS_SYNC_RECORD_STATUS_DATE_OVERRIDE", "yesterday"),
    ],
)
def test_a_wrong_value_names_its_variable_and_the_value(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(UsageError, match=rf"{variable}='{value}' is invalid: "):
        load_settings()


def test_lists_of_urls_are_separated_by_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIS_SYNC_NOTIFICATION_URLS", "json://one  json://two")
    monkeypatch.setenv("TIS_SYNC_LOG_FORMAT", "json")
    settings = load_settings()
    assert settings.notification_urls == ["json://one", "json://two"]
    assert settings.log_format is LogFormat.JSON
