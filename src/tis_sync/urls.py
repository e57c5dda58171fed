"""URLs that are safe to show: asterisks replace the password, and values that may be secret."""

import re

# Query parameters of database, broker and destination URLs that never contain a secret. Whatever is
# not listed is not shown.
HARMLESS = frozenset(
    {
        "charset", "connect_timeout", "host", "hostaddr", "port", "read_timeout", "ssl_ca",
        "ssl_capath", "ssl_cert", "ssl_check_hostname", "ssl_cipher", "ssl_key", "ssl_mode",
        "ssl_verify_cert", "ssl_verify_identity", "sslcert", "sslkey", "sslmode", "sslrootcert",
        "timeout", "unix_socket", "write_timeout",
    }
)  # fmt: skip
MASK = "***"


def redacted_url(url: str) -> str:
    """Return a URL without its password, and without the values of parameters not in `HARMLESS`."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    # Up to the last @: a password may contain @ and / although it should not.
    user, at, place = rest.rpartition("@")
    name, colon, _ = user.partition(":")
    if colon:
        user = f"{name}:{MASK}"
    place, question, query = place.partition("?")
    return f"{scheme}://{user}{at}{place}{question}{_redacted_query(query)}"


def _redacted_query(query: str) -> str:
    parts: list[str] = []
    for part in re.split(r"([&;])", query):
        name, equals, _ = part.partition("=")
        parts.append(f"{name}={MASK}" if equals and name.lower() not in HARMLESS else part)
    return "".join(parts)
