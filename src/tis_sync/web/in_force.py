"""The settings in force, as they may be shown: what could hold a secret is told as set, or not."""

from dataclasses import dataclass

from pydantic import SecretStr

from tis_sync.settings import Settings

# Not typed as secrets, and yet with passwords in them.
HIDDEN = {"alert_urls", "export_options"}
SET, UNSET = "set (not shown)", ""


@dataclass(frozen=True)
class Setting:
    """One setting: the variable, its value as text, whether it is the default, its meaning."""

    name: str
    value: str
    is_default: bool
    meaning: str


def in_force(settings: Settings) -> list[Setting]:
    """All settings, in the order of the documentation."""
    found = []
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        default = field.get_default(call_default_factory=True)
        secret = isinstance(value, SecretStr) or name in HIDDEN
        text = str(value) if value not in (None, [], {}) else UNSET
        found.append(
            Setting(
                "TIS_SYNC_" + name.upper(),
                SET if secret and text else text,
                value == default,
                field.description or "",
            )
        )
    return found
