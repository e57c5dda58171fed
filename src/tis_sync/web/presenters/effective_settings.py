"""The effective settings, without their secrets: each of those is shown as set or not set."""

from dataclasses import dataclass

from pydantic import SecretStr

from tis_sync.settings.model import HIDDEN, PREFIX, Settings

SET, UNSET = "set (not shown)", ""


@dataclass(frozen=True)
class EffectiveSetting:
    """One setting.

    Attributes:
        name: the environment variable.
        value: as text; empty: not set.
        is_default: whether the value is the default.
        description: its meaning and unit.

    """

    name: str
    value: str
    is_default: bool
    description: str


def effective_settings(settings: Settings) -> list[EffectiveSetting]:
    """Return all settings, in the order in which `Settings` declares them."""
    effective = []
    for name, field in Settings.model_fields.items():
        value = getattr(settings, name)
        default = field.get_default(call_default_factory=True)
        secret = isinstance(value, SecretStr) or name in HIDDEN
        text = str(value) if value not in (None, [], {}) else UNSET
        effective.append(
            EffectiveSetting(
                PREFIX + name.upper(),
                SET if secret and text else text,
                value == default,
                field.description or "",
            )
        )
    return effective
