"""Notification channels: the services to which alarms are sent, each named by an Apprise URL."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Any

from tis_sync.alarms.catalogue import Severity

SEND_SECONDS = 30.0  # for one channel to accept one notification


@dataclass(frozen=True)
class Channel:
    """A notification channel.

    Attributes:
        number: its position in the setting, from 1.
        url: its Apprise URL, which contains secrets.

    """

    number: int
    url: str

    @property
    def id(self) -> str:
        """A name for the state database that reveals nothing of the URL."""
        return sha256(self.url.encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """A name for messages, without secrets."""
        scheme, separator, _ = self.url.partition("://")
        return f"channel {self.number}" + (f" ({scheme[:20]})" if separator else "")

    @cached_property
    def is_usable(self) -> bool:
        """Whether the URL is one of Apprise's."""
        return self.service() is not None

    def service(self) -> Any | None:
        """Return Apprise's client for the channel; None if the URL is not one of Apprise's."""
        import apprise  # imported on demand: it loads more than a hundred services

        service = apprise.Apprise()
        return service if service.add(self.url) else None

    def send(self, title: str, text: str, severity: Severity) -> bool:
        """Send a message; return whether the channel has accepted it."""
        service = self.service()
        return service is not None and bool(
            service.notify(title=title, body=text, notify_type=severity.value, timeout=SEND_SECONDS)
        )


def channels_of(urls: Sequence[str]) -> list[Channel]:
    """Return the channels that the setting names."""
    return [Channel(number, url) for number, url in enumerate(dict.fromkeys(urls), start=1)]
