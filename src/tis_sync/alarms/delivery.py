"""Delivery of notifications: to the log, and to every channel that the settings name."""

from collections.abc import Sequence
from typing import Literal

import structlog

log = structlog.get_logger("tis_sync.alarms")


def notify(
    channels: Sequence[str],
    title: str,
    text: str,
    *,
    level: Literal["error", "warning", "info"] = "error",
) -> None:
    """Log a message and send it to every channel.

    If a channel fails, the failure is logged; nothing is raised.

    Args:
        channels: Apprise URLs (Slack, Teams, mail and many more).
        title: what happened, in a few words.
        text: what it means, and the command that fixes it.
        level: the level of the log line.

    """
    getattr(log, level)(title, detail=text)
    if not channels:
        return
    import apprise  # imported on demand: it loads more than a hundred services

    service = apprise.Apprise()
    for channel in channels:
        if not service.add(channel):
            log.warning(
                "notification not sent", reason="not an Apprise URL", channel=channel.split(":")[0]
            )
    if len(service) and not service.notify(title=f"tis-sync: {title}", body=text):
        log.warning("notification not sent", reason="a channel refused it", alarm=title)
