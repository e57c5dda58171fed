"""The claims of the provider's tokens: verification, kind of token, roles and name."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import Enum
from typing import Any

from joserfc import jwt
from joserfc.errors import InvalidKeyIdError, JoseError
from joserfc.jwk import KeySet

from tis_sync.web.auth.identity import NotSignedInError

# Only asymmetric signatures: whoever knows a shared secret could sign with it.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
LEEWAY_SECONDS = 30  # by which the provider's clock may differ from ours
NAME_CLAIMS = ("preferred_username", "email", "name", "sub")  # the first in a token is shown
NAME_CHARACTERS = 200  # that the history keeps of a name
# Claims of identity tokens and logout tokens (OpenID Connect); no access token needs them.
NOT_OF_ACCESS = ("nonce", "at_hash", "c_hash", "s_hash", "events")


class Kind(Enum):
    """What a token is for: the types in its header, and the claim `typ` that Keycloak adds."""

    IDENTITY = (frozenset({"jwt"}), "ID")  # who signed in
    # RFC 9068. Other providers, such as Keycloak, call access tokens JWT too.
    ACCESS = (frozenset({"jwt", "at+jwt", "application/at+jwt"}), "Bearer")

    @property
    def header_types(self) -> frozenset[str]:
        """What the header may call such a token, in lower case."""
        return self.value[0]

    @property
    def claim(self) -> str:
        """What Keycloak calls such a token."""
        return self.value[1]


def verified(
    token: str, keys: KeySet, *, kind: Kind, issuer: str, audience: str | None, now: datetime
) -> dict[str, Any]:
    """Return the claims of a token, once signature, kind, issuer, audience and age are verified.

    Args:
        token: the token.
        keys: the keys of the provider.
        kind: what the token has to be.
        issuer: the provider.
        audience: for whom the token has to be. None: for whomever.
        now: the current time.

    Raises:
        joserfc.errors.InvalidKeyIdError: none of the keys has the id that the token names.
        NotSignedInError: the token is not accepted; the message says why.

    """
    try:
        decoded = jwt.decode(token, keys, ALGORITHMS)
        rules: dict[str, Any] = {
            "iss": {"essential": True, "value": issuer},
            "exp": {"essential": True},
            "sub": {"essential": True},
        }
        if audience is not None:
            rules["aud"] = {"essential": True, "value": audience}
        jwt.JWTClaimsRegistry(
            now=lambda: int(now.timestamp()), leeway=LEEWAY_SECONDS, **rules
        ).validate(decoded.claims)
    except InvalidKeyIdError:
        raise
    except (JoseError, ValueError) as error:
        description = error.description if isinstance(error, JoseError) else ""
        raise _refused(description or str(error) or type(error).__name__) from None
    subject = decoded.claims["sub"]
    if not (isinstance(subject, str) and subject):
        raise _refused("its subject (sub) is not a text")
    if not is_of_kind(decoded.header, decoded.claims, kind):
        raise _refused(f"it is not an {kind.name.lower()} token")
    return dict(decoded.claims)


def is_of_kind(header: Mapping[str, Any], claims: Mapping[str, Any], kind: Kind) -> bool:
    """Whether a token is of a kind.

    One provider signs all its tokens with the same keys, so a token that was issued for another
    purpose must not be taken for an access token.
    """
    header_type = str(header.get("typ") or "JWT").lower()
    if header_type not in kind.header_types or claims.get("typ", kind.claim) != kind.claim:
        return False
    if kind is Kind.IDENTITY or header_type != "jwt" or "typ" in claims:
        return True
    return not any(name in claims for name in NOT_OF_ACCESS)


def role_names(claims: Mapping[str, Any], path: str) -> Iterator[str]:
    """Yield the names of roles in a token: a text, or those texts that a list contains.

    Args:
        claims: of the token.
        path: the claim; dots separate levels.

    """
    value: Any = claims
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    names = value if isinstance(value, list) else [value]
    yield from (name for name in names if isinstance(name, str))


def person_name(claims: Mapping[str, Any]) -> str:
    """Return the name of a person or machine, without characters that cannot be printed."""
    for claim in NAME_CLAIMS:
        value = claims.get(claim)
        if isinstance(value, str):
            name = "".join(character for character in value if character.isprintable()).strip()
            if name:
                return name[:NAME_CHARACTERS]
    return "unnamed"


def _refused(reason: str) -> NotSignedInError:
    return NotSignedInError(f"This token is not accepted: {reason.rstrip('.')}.")
