"""The checks of the configuration: settings, and the notification channels that they name."""

from collections.abc import Iterator

from tis_sync.alarms.channels import channels_of
from tis_sync.alarms.delivery import waiting
from tis_sync.doctor.finding import DRIFTED, NOT_CHECKED, OK, Finding
from tis_sync.esr.deaneries import DEANERIES, FileType
from tis_sync.esr.messaging.topology import NAMES
from tis_sync.runs.services import Services
from tis_sync.settings.loading import unknown_setting_hint, unknown_settings


def check_settings(s: Services) -> Iterator[Finding]:
    """Check for variables that are not settings, and for values that cannot be right."""
    settings = s.settings
    for name, similar in unknown_settings().items():
        yield Finding(
            f"setting {name}", DRIFTED, "is not a setting and is ignored",
            f"unset it; {unknown_setting_hint(similar)}",
        )  # fmt: skip
    deaneries = sorted(set(settings.esr_deaneries.values()) - set(DEANERIES))
    if deaneries:
        yield Finding(
            "setting TIS_SYNC_ESR_DEANERIES", DRIFTED, f"not deaneries: {', '.join(deaneries)}",
            f"name some of {', '.join(DEANERIES)}",
        )  # fmt: skip
    file_types = sorted(set(settings.esr_last_numbers) - set(FileType))
    if file_types:
        yield Finding(
            "setting TIS_SYNC_ESR_LAST_NUMBERS", DRIFTED,
            f"not file types: {', '.join(file_types)}",
            f"name some of {', '.join(FileType)}",
        )  # fmt: skip
    unknown = sorted(set(settings.broker_names) - set(NAMES))
    if unknown:
        yield Finding(
            "setting TIS_SYNC_BROKER_NAMES", DRIFTED, f"unknown names: {', '.join(unknown)}",
            f"name some of {', '.join(NAMES)}",
        )  # fmt: skip
    if settings.clock_offset_seconds:
        yield Finding(
            "setting TIS_SYNC_CLOCK_OFFSET_SECONDS", DRIFTED,
            f"this is a rehearsal: the clock is shifted by {settings.clock_offset_seconds:,.0f} s",
            "unset it",
        )  # fmt: skip
    waits = settings.esr_retry_seconds
    if waits:
        yield Finding("retry policy", OK, f"{len(waits)} retries in {sum(waits):,.0f} s")
    else:
        yield Finding(
            "retry policy", DRIFTED, "a failed export command is never retried",
            "set TIS_SYNC_ESR_RETRY_SECONDS, or unset it to use the default",
        )  # fmt: skip


def check_channels(s: Services) -> Iterator[Finding]:
    """Check the channels without sending anything; their URLs contain secrets and are not shown."""
    channels = channels_of(s.settings.notification_urls)
    if not channels:
        yield Finding(
            "notification channels", NOT_CHECKED, "none is configured: alarms are only logged",
            "set TIS_SYNC_NOTIFICATION_URLS",
        )  # fmt: skip
    late = waiting(s.state, channels)
    for channel in channels:
        name = f"notification {channel.label}"
        if channel.service() is None:
            yield Finding(
                name, DRIFTED, "not an Apprise URL: it receives no alarms",
                "correct it in TIS_SYNC_NOTIFICATION_URLS",
            )  # fmt: skip
        elif channel in late:
            found = late[channel]
            yield Finding(
                name, DRIFTED,
                f"has not accepted {found.count:,} notifications, the oldest of "
                f"{found.since:%Y-%m-%d %H:%M} UTC; they are sent again automatically",
                "check the service behind the channel, and its URL in TIS_SYNC_NOTIFICATION_URLS",
            )  # fmt: skip
        else:
            yield Finding(name, OK, "no notification is waiting")
