"""URLs in messages contain no password, and no parameter that may be secret."""

import pytest

from tis_sync.db.database import redacted
from tis_sync.errors import UnreachableError
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.urls import redacted_url


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("sftp://user:secret@host:22/in", "sftp://user:***@host:22/in"),
        ("sftp://user:se/cr@et@host/in", "sftp://user:***@host/in"),
        ("s3://key:sec/ret@bucket/in", "s3://key:***@bucket/in"),
        ("amqp://u@h/v?password=secret&timeout=5", "amqp://u@h/v?password=***&timeout=5"),
        ("https://h/x?a=secret;B=secret", "https://h/x?a=***;B=***"),
        ("mysql://u@h/tcs?ssl_ca=/ca.pem", "mysql://u@h/tcs?ssl_ca=/ca.pem"),
        ("/srv/esr", "/srv/esr"),
        ("file:///srv/a@b", "file:///srv/a@b"),
    ],
)
def test_a_url_is_shown_without_secrets(url: str, safe: str) -> None:
    assert redacted_url(url) == safe


def test_a_password_among_the_parameters_of_a_database_is_not_shown() -> None:
    url = "mysql+pymysql://tcs@127.0.0.1:9/tcs?password=hunter2&ssl_ca=/etc/ca.pem"
    assert "hunter2" not in redacted(url)
    s = Services(Settings(tcs_url=url.replace("&ssl_ca=/etc/ca.pem", "")))
    with pytest.raises(UnreachableError) as raised, s.tcs().read():
        pass
    assert "hunter2" not in str(raised.value)
    s.close()
