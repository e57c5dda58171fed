"""Tell people: the log always, and Apprise URLs where the settings name some."""

from collections.abc import Sequence

import structlog

log = structlog.get_logger("tis_sync.alerts")


def send(urls: Sequence[str], title: str, text: str, *, level: str = "error") -> None:
    """Log a message and send it to every URL; a URL that fails is logged, never raised.

    Args:
        urls: Apprise URLs (Slack, Teams, mail and many more).
        title: what happened, in a few words.
        text: what it means, and the command that mends it.
        level: of the log line: "error", "warning" or "info".

    """
    getattr(log, level)(title, detail=text)
    if not urls:
        return
    import apprise  # a hundred services: loaded where one is used

    service = apprise.Apprise()
    for url in urls:
        if not service.add(url):
            log.warning("alert not sent", reason="not an Apprise URL", url=url.split(":")[0])
    if len(service) and not service.notify(title=f"tis-sync: {title}", body=text):
        log.warning("alert not sent", reason="a receiver refused it", alert=title)
