"""How a MySQL or MariaDB server is reached: address, socket, TLS and timeouts, from its URL.

Both ways to the server use the same: the driver (`tis_sync.db.database`), and the reads of whole
columns (`tis_sync.db.mysql_relay`).
"""

import socket
import ssl
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.engine import URL

from tis_sync.errors import UsageError

DEFAULT_PORT = 3306
UNIX_SOCKET = "unix_socket"
# What the URL may say about TLS, in its query. The names are those of the driver, PyMySQL.
CA, CA_FOLDER, CERTIFICATE, KEY = "ssl_ca", "ssl_capath", "ssl_cert", "ssl_key"
VERIFY_CERTIFICATE, VERIFY_IDENTITY = "ssl_verify_cert", "ssl_verify_identity"
CHECK_HOSTNAME, CIPHERS, DISABLED = "ssl_check_hostname", "ssl_cipher", "ssl_disabled"
TLS_OPTIONS = (
    CA, CA_FOLDER, CERTIFICATE, KEY, VERIFY_CERTIFICATE, VERIFY_IDENTITY, CHECK_HOSTNAME, CIPHERS,
    DISABLED,
)  # fmt: skip
YES, NO = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}
CONNECT_TIMEOUT_SECONDS = 10  # until the server accepts a connection and greets us
TIMEOUT_SECONDS = 120.0  # until the server answers a statement or sends the next part of a result


@dataclass(frozen=True)
class MySQLServer:
    """How a server is reached.

    Attributes:
        host: its name or address; also the name that its certificate must have.
        port: its TCP port.
        unix_socket: the path of its Unix socket. None: it is reached over TCP.
        tls: how to encrypt. None: do not.
        tls_required: whether to refuse a server that does not offer TLS. If this is false, such a
            server is used without encryption, as the URL asks for none.
        timeout_seconds: how long it may be silent while we wait for an answer.

    """

    host: str
    port: int
    unix_socket: str | None
    tls: ssl.SSLContext | None
    tls_required: bool
    timeout_seconds: float

    def connect(self) -> socket.socket:
        """Open a connection, without TLS yet.

        Raises:
            OSError: there is no server, or no answer.

        """
        if self.unix_socket is not None:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.settimeout(CONNECT_TIMEOUT_SECONDS)
            connection.connect(self.unix_socket)
        else:
            connection = socket.create_connection(
                (self.host, self.port), timeout=CONNECT_TIMEOUT_SECONDS
            )
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        connection.settimeout(self.timeout_seconds)
        return connection


def split_url(url: URL, timeout_seconds: float, setting: str) -> tuple[URL, MySQLServer]:
    """Take the TLS options out of a URL.

    Without options, TLS is used if the server offers it, but its certificate is not verified.
    `ssl_disabled=true` turns TLS off. Any other option requires TLS. `ssl_ca`, or one of the
    `ssl_verify_` options, verifies the certificate and the name in it; `ssl_check_hostname=false`
    leaves the name out.

    Args:
        url: an SQLAlchemy URL of MySQL or MariaDB.
        timeout_seconds: see `MySQLServer`.
        setting: the environment variable that contains the URL, for error messages.

    Returns:
        The URL without these options, and how the server is reached.

    Raises:
        UsageError: an option is unknown, or names a file that cannot be used.

    """
    unknown = [name for name in url.query if "ssl" in name.lower() and name not in TLS_OPTIONS]
    if unknown:
        raise UsageError(
            f"{setting}: unknown option {unknown[0]!r}; the options for TLS are "
            f"{', '.join(TLS_OPTIONS)}."
        )
    options = {name: str(url.query[name]) for name in TLS_OPTIONS if name in url.query}
    path = url.query.get(UNIX_SOCKET)
    tls = None if path is not None and not options else _context(options, setting)
    server = MySQLServer(
        host=url.host or "localhost",
        port=url.port or DEFAULT_PORT,
        unix_socket=None if path is None else str(path),
        tls=tls,
        tls_required=bool(options) and tls is not None,
        timeout_seconds=timeout_seconds,
    )
    return url.difference_update_query(TLS_OPTIONS), server


def _context(options: dict[str, str], setting: str) -> ssl.SSLContext | None:
    """What the options ask for; None if they switch TLS off."""

    def is_on(name: str, *, default: bool) -> bool:
        text = options.get(name, str(default)).lower()
        if text not in YES | NO:
            raise UsageError(f"{setting}: {name} must be true or false, not {text!r}.")
        return text in YES

    def file(name: str) -> str | None:
        path = options.get(name)
        if path is not None and not Path(path).exists():
            raise UsageError(f"{setting}: {name} names {path}, which does not exist.")
        return path

    if is_on(DISABLED, default=False):
        return None
    authority, folder, certificate = file(CA), file(CA_FOLDER), file(CERTIFICATE)
    names_authority = authority is not None or folder is not None
    verifies_name = is_on(VERIFY_IDENTITY, default=False)
    verifies = is_on(VERIFY_CERTIFICATE, default=names_authority or verifies_name) or verifies_name
    try:
        context = ssl.create_default_context(cafile=authority, capath=folder)
        # Certificates that MySQL generates for itself do not meet these rules of newer Pythons.
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.check_hostname = (
            verifies
            and is_on(CHECK_HOSTNAME, default=True)
            and is_on(VERIFY_IDENTITY, default=True)
        )
        context.verify_mode = ssl.CERT_REQUIRED if verifies else ssl.CERT_NONE
        if certificate is not None:
            context.load_cert_chain(certificate, file(KEY))
        if CIPHERS in options:
            context.set_ciphers(options[CIPHERS])
    except (ssl.SSLError, OSError) as error:
        raise UsageError(f"{setting}: the options for TLS cannot be used: {error}.") from None
    return context
