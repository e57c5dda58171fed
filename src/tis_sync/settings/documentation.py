"""The documentation of the settings: all of them by group, each with its default and meaning."""

from dataclasses import dataclass

from tis_sync.settings.model import PREFIX, Settings

# The title of each group of settings, by the group's first setting.
GROUPS = {
    "home": "Data and servers",
    "night_times": "The night",
    "guard_share": "Guard and alarms",
    "partition_keys": "Load on TCS and memory",
    "rebuild_share": "Search",
    "esr": "Export to ESR",
    "broker_url": "Messages",
    "web_url": "Web console",
    "oidc_issuer": "Sign-in",
    "log_file": "Logs and history",
    "shutdown_wait_seconds": "Workers",
}


@dataclass(frozen=True)
class SettingDoc:
    """What the documentation says about a setting.

    Attributes:
        field: its name in `Settings`.
        name: its environment variable.
        default: its default as text; empty if there is none.
        description: its meaning and unit, in whole sentences.

    """

    field: str
    name: str
    default: str
    description: str


def settings_by_group() -> dict[str, list[SettingDoc]]:
    """All settings by the title of their group, in the order of declaration."""
    groups: dict[str, list[SettingDoc]] = {}
    group: list[SettingDoc] = []
    for field, info in Settings.model_fields.items():
        if field in GROUPS:
            group = groups[GROUPS[field]] = []
        default = info.get_default(call_default_factory=True)
        text = "" if default is None or default in ([], {}) else str(default)
        group.append(SettingDoc(field, PREFIX + field.upper(), text, info.description or ""))
    return groups
