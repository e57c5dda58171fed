"""The sign-in provider (OpenID Connect): people sign in with it, scripts send its tokens."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

import httpx2
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import OAuth2Client
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from tis_sync.audit import Channel
from tis_sync.errors import UnreachableError, UsageError
from tis_sync.settings.model import Settings
from tis_sync.web.auth.identity import (
    UPDATE,
    VIEW,
    Caller,
    NotAllowedError,
    NotSignedInError,
    Role,
    roles_of,
)

# Only asymmetric signatures: whoever knows a shared secret could sign with it.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
LEEWAY_SECONDS = 30  # by which the provider's clock may differ from ours
KEYS_SECONDS = 30.0  # at least this long between two fetches of keys because of an unknown key id
TIMEOUT_SECONDS = 10.0
NAME_CLAIMS = ("preferred_username", "email", "name", "sub")  # the first in a token is shown
NAME_CHARACTERS = 200  # that the history keeps of a name


@dataclass(frozen=True)
class SignIn:
    """A sign-in that has begun.

    Attributes:
        url: where the browser goes.
        stored: what has to be stored until the browser comes back.

    """

    url: str
    stored: dict[str, str]


class Provider:
    """The provider that the settings name.

    Args:
        settings: issuer, client and roles.
        clock: returns the current time, which decides whether a token has expired.

    """

    def __init__(self, settings: Settings, clock: Callable[[], datetime]) -> None:
        assert settings.oidc_issuer is not None
        self._settings, self._clock = settings, clock
        self._issuer = settings.oidc_issuer
        self._lock = threading.Lock()
        self._discovered: dict[str, Any] | None = None
        self._keys: KeySet | None = None
        self._keys_at = 0.0

    def begin(self, callback: str) -> SignIn:
        """Begin a sign-in.

        Args:
            callback: the URL to which the provider sends the browser back.

        Raises:
            UnreachableError: the provider does not answer.

        """
        values = {"nonce": secrets.token_urlsafe(24), "verifier": secrets.token_urlsafe(48)}
        with self._client(callback) as client:
            url, state = client.create_authorization_url(
                self._metadata()["authorization_endpoint"],
                nonce=values["nonce"],
                code_verifier=values["verifier"],
            )
        return SignIn(url, values | {"state": state})

    def complete(self, callback: str, url: str, stored: Mapping[str, str]) -> Caller:
        """Complete a sign-in and return the person.

        Args:
            callback: as for `begin`.
            url: the URL of the request, with its query.
            stored: what `begin` returned to be stored.

        Raises:
            NotSignedInError: the provider did not sign the person in, or not for us.
            NotAllowedError: the person has none of our roles.
            UnreachableError: the provider does not answer.

        """
        metadata = self._metadata()
        try:
            with self._client(callback) as client:
                answer = client.fetch_token(
                    metadata["token_endpoint"],
                    authorization_response=url,
                    state=stored["state"],
                    code_verifier=stored["verifier"],
                )
        except AuthlibBaseError as error:
            raise NotSignedInError(
                f"The sign-in failed: {error.description or error.error}. Sign in again."
            ) from None
        except httpx2.HTTPError as error:
            raise self._unreachable(error) from None
        claims = self._verified(str(answer.get("id_token")), self._settings.oidc_client_id)
        if claims.get("nonce") != stored["nonce"]:
            raise NotSignedInError("This is the end of another sign-in. Sign in again.")
        roles = self._roles(claims, *self._access_claims(answer))
        if not roles:
            raise NotAllowedError(
                f"{_name(claims)} has neither the role {self._settings.oidc_view_role!r} nor "
                f"{self._settings.oidc_update_role!r}. Ask the administrator of the sign-in "
                "provider for one of them."
            )
        return Caller(_name(claims), Channel.SESSION, roles)

    def bearer(self, token: str) -> Caller:
        """Return the holder of one of the provider's tokens.

        Raises:
            NotSignedInError: the token is malformed, expired, of another issuer or not for us.
            NotAllowedError: the token contains none of our roles.

        """
        audience = self._settings.oidc_audience or self._settings.oidc_client_id
        claims = self._verified(token, audience)
        roles = self._roles(claims)
        if not roles:
            raise NotAllowedError(
                f"This token contains neither the role {self._settings.oidc_view_role!r} nor "
                f"{self._settings.oidc_update_role!r}."
            )
        return Caller(_name(claims), Channel.BEARER, roles)

    def sign_out_url(self, back: str) -> str | None:
        """Return the URL that ends the session at the provider and then leads to `back`.

        None: the provider does not offer this, or does not answer.
        """
        try:
            endpoint = self._metadata().get("end_session_endpoint")
        except UnreachableError:
            return None
        if endpoint is None:
            return None
        query = {"client_id": self._settings.oidc_client_id, "post_logout_redirect_uri": back}
        return f"{endpoint}?{urlencode(query)}"

    def _client(self, callback: str) -> OAuth2Client:
        secret = self._settings.oidc_client_secret
        return OAuth2Client(
            self._settings.oidc_client_id,
            None if secret is None else secret.get_secret_value(),
            token_endpoint_auth_method="none" if secret is None else "client_secret_basic",
            scope="openid profile email",
            redirect_uri=callback,
            code_challenge_method="S256",
            timeout=TIMEOUT_SECONDS,
        )

    def _metadata(self) -> dict[str, Any]:
        """The provider's discovery document, fetched once."""
        with self._lock:
            if self._discovered is None:
                url = self._issuer.rstrip("/") + "/.well-known/openid-configuration"
                document = self._get(url)
                if document.get("issuer") != self._issuer:
                    raise UsageError(
                        f"TIS_SYNC_OIDC_ISSUER is {self._issuer}, but the provider at this address "
                        f"calls itself {document.get('issuer')}. Both must be the same."
                    )
                self._discovered = document
            return self._discovered

    def _get(self, url: str) -> dict[str, Any]:
        try:
            response = httpx2.get(url, timeout=TIMEOUT_SECONDS)
            response.raise_for_status()
            document: dict[str, Any] = response.json()
        except (httpx2.HTTPError, ValueError) as error:
            raise self._unreachable(error) from None
        return document

    def _unreachable(self, error: Exception) -> UnreachableError:
        return UnreachableError(
            f"The sign-in provider {self._issuer} does not answer properly ({error}). Check that "
            "it is running, and TIS_SYNC_OIDC_ISSUER."
        )

    def _key_set(self, *, refresh: bool) -> KeySet:
        url = str(self._metadata()["jwks_uri"])
        with self._lock:
            old = time.monotonic() - self._keys_at > KEYS_SECONDS
            if self._keys is None or (refresh and old):
                self._keys = KeySet.import_key_set(self._get(url))  # type: ignore[arg-type]
                self._keys_at = time.monotonic()
            return self._keys

    def _verified(self, token: str, audience: str) -> dict[str, Any]:
        """The claims of a token, once its signature, issuer, audience and age are verified."""
        try:
            try:
                decoded = jwt.decode(token, self._key_set(refresh=False), ALGORITHMS)
            except ValueError:  # an unknown key id: the provider may have a new key
                decoded = jwt.decode(token, self._key_set(refresh=True), ALGORITHMS)
            jwt.JWTClaimsRegistry(
                now=lambda: int(self._clock().timestamp()),
                leeway=LEEWAY_SECONDS,
                iss={"essential": True, "value": self._issuer},
                aud={"essential": True, "value": audience},
                exp={"essential": True},
            ).validate(decoded.claims)
        except (JoseError, ValueError) as error:
            description = error.description if isinstance(error, JoseError) else ""
            reason = description or str(error) or type(error).__name__
            raise NotSignedInError(f"This token is not accepted: {reason}.") from None
        return dict(decoded.claims)

    def _access_claims(self, answer: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
        """The claims of the access token: Keycloak puts roles there by default."""
        access = str(answer.get("access_token", ""))
        if access.count(".") == 2:
            try:
                claims = jwt.decode(access, self._key_set(refresh=False), ALGORITHMS).claims
            except (JoseError, ValueError):
                return
            if claims.get("iss") == self._issuer:
                yield claims

    def _roles(self, *tokens: Mapping[str, Any]) -> frozenset[Role]:
        names: set[str] = set()
        for claims in tokens:
            value: Any = claims
            for key in self._settings.oidc_roles_claim.split("."):
                value = value.get(key) if isinstance(value, Mapping) else None
            names |= {value} if isinstance(value, str) else set(value or ())
        if self._settings.oidc_update_role in names:
            return roles_of(UPDATE)
        return roles_of(VIEW) if self._settings.oidc_view_role in names else frozenset()


def _name(claims: Mapping[str, Any]) -> str:
    return str(next(claims[name] for name in NAME_CLAIMS if claims.get(name)))[:NAME_CHARACTERS]
