"""The sign-in provider (OpenID Connect): people by code flow with PKCE, scripts by its tokens."""

import secrets
import threading
import time
from collections.abc import Callable, Iterable, Mapping
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

from tis_sync.errors import UnreachableError, UsageError
from tis_sync.settings import Settings
from tis_sync.web.who import UPDATE, VIEW, Caller, NotAllowedError, NotSignedInError, roles_of

# Signatures by the provider's own key only: what a shared secret signs, anybody who has it can.
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
LEEWAY_SECONDS = 30  # by which the provider's clock may differ from ours
KEYS_SECONDS = 30.0  # not more often than this are its keys fetched for a key that we don't know
TIMEOUT_SECONDS = 10.0
NAMES = ("preferred_username", "email", "name", "sub")  # the first that a token has is shown


@dataclass(frozen=True)
class Departure:
    """Where somebody goes to sign in, and what has to be remembered until they come back."""

    url: str
    remembered: dict[str, str]


class Provider:
    """The provider that the settings name.

    Args:
        settings: issuer, client, roles.
        clock: tells the present moment, by which tokens are too old.

    """

    def __init__(self, settings: Settings, clock: Callable[[], datetime]) -> None:
        assert settings.oidc_issuer is not None
        self._settings, self._clock = settings, clock
        self._issuer = settings.oidc_issuer
        self._lock = threading.Lock()
        self._known: dict[str, Any] | None = None
        self._keys: KeySet | None = None
        self._keys_at = 0.0

    def departure(self, callback: str) -> Departure:
        """Begin a sign-in that comes back to the URL `callback`.

        Raises:
            UnreachableError: the provider does not answer.

        """
        remembered = {"nonce": secrets.token_urlsafe(24), "verifier": secrets.token_urlsafe(48)}
        with self._client(callback) as client:
            url, state = client.create_authorization_url(
                self._about()["authorization_endpoint"],
                nonce=remembered["nonce"],
                code_verifier=remembered["verifier"],
            )
        return Departure(url, remembered | {"state": state})

    def arrival(self, callback: str, url: str, remembered: Mapping[str, str]) -> Caller:
        """Who it is that comes back from a sign-in.

        Args:
            callback: as it was for `departure`.
            url: what was called, with its query.
            remembered: what `departure` gave.

        Raises:
            NotSignedInError: the provider did not sign them in, or not for us.
            NotAllowedError: they have none of our roles.
            UnreachableError: the provider does not answer.

        """
        about = self._about()
        try:
            with self._client(callback) as client:
                given = client.fetch_token(
                    about["token_endpoint"],
                    authorization_response=url,
                    state=remembered["state"],
                    code_verifier=remembered["verifier"],
                )
        except AuthlibBaseError as error:
            raise NotSignedInError(
                f"The sign-in did not work: {error.description or error.error}. Sign in again."
            ) from None
        except httpx2.HTTPError as error:
            raise self._away(error) from None
        who = self._claims(str(given.get("id_token")), self._settings.oidc_client_id)
        if who.get("nonce") != remembered["nonce"]:
            raise NotSignedInError("The sign-in was not the one that began here. Sign in again.")
        roles = self._roles(who, *self._more(given))
        if not roles:
            raise NotAllowedError(
                f"{_name(who)} is known, but has neither the role "
                f"{self._settings.oidc_view_role!r} nor {self._settings.oidc_update_role!r}. "
                "Who looks after the sign-in provider can give one."
            )
        return Caller(_name(who), "session", roles)

    def bearer(self, token: str) -> Caller:
        """Who holds a token of the provider's.

        Raises:
            NotSignedInError: it is no token, not the provider's, not for us, or too old.
            NotAllowedError: it names none of our roles.

        """
        audience = self._settings.oidc_audience or self._settings.oidc_client_id
        claims = self._claims(token, audience)
        roles = self._roles(claims)
        if not roles:
            raise NotAllowedError("This token names none of the roles that may look here.")
        return Caller(_name(claims), "bearer", roles)

    def farewell(self, back: str) -> str | None:
        """Where to end the session at the provider too, coming back to `back`; None: nowhere."""
        try:
            end = self._about().get("end_session_endpoint")
        except UnreachableError:
            return None
        if end is None:
            return None
        query = {"client_id": self._settings.oidc_client_id, "post_logout_redirect_uri": back}
        return f"{end}?{urlencode(query)}"

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

    def _about(self) -> dict[str, Any]:
        """What the provider says of itself, asked for once."""
        with self._lock:
            if self._known is None:
                url = self._issuer.rstrip("/") + "/.well-known/openid-configuration"
                said = self._get(url)
                if said.get("issuer") != self._issuer:
                    raise UsageError(
                        f"TIS_SYNC_OIDC_ISSUER is {self._issuer}, but the provider there calls "
                        f"itself {said.get('issuer')}; they must be the same."
                    )
                self._known = said
            return self._known

    def _get(self, url: str) -> dict[str, Any]:
        try:
            reply = httpx2.get(url, timeout=TIMEOUT_SECONDS)
            reply.raise_for_status()
            found: dict[str, Any] = reply.json()
        except (httpx2.HTTPError, ValueError) as error:
            raise self._away(error) from None
        return found

    def _away(self, error: Exception) -> UnreachableError:
        return UnreachableError(
            f"The sign-in provider {self._issuer} does not answer as it should ({error}); check "
            "that it runs, and TIS_SYNC_OIDC_ISSUER."
        )

    def _key_set(self, *, anew: bool) -> KeySet:
        url = str(self._about()["jwks_uri"])
        with self._lock:
            stale = time.monotonic() - self._keys_at > KEYS_SECONDS
            if self._keys is None or (anew and stale):
                self._keys = KeySet.import_key_set(self._get(url))  # type: ignore[arg-type]
                self._keys_at = time.monotonic()
            return self._keys

    def _claims(self, token: str, audience: str) -> dict[str, Any]:
        """What a token says, its signature, issuer, audience and age being right."""
        try:
            try:
                said = jwt.decode(token, self._key_set(anew=False), ALGORITHMS)
            except ValueError:  # no key of that id: the provider may have a new one
                said = jwt.decode(token, self._key_set(anew=True), ALGORITHMS)
            jwt.JWTClaimsRegistry(
                now=lambda: int(self._clock().timestamp()),
                leeway=LEEWAY_SECONDS,
                iss={"essential": True, "value": self._issuer},
                aud={"essential": True, "value": audience},
                exp={"essential": True},
            ).validate(said.claims)
        except (JoseError, ValueError) as error:
            reason = getattr(error, "description", None) or str(error) or type(error).__name__
            raise NotSignedInError(f"This token is not taken: {reason}.") from None
        return dict(said.claims)

    def _more(self, given: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
        """Other places where roles may stand: the access token, what the provider tells of people.

        Keycloak puts roles into access tokens unless told otherwise.
        """
        access = str(given.get("access_token", ""))
        if access.count(".") == 2:
            try:
                said = jwt.decode(access, self._key_set(anew=False), ALGORITHMS).claims
            except (JoseError, ValueError):
                return
            if said.get("iss") == self._issuer:
                yield said

    def _roles(self, *said: Mapping[str, Any]) -> frozenset[str]:
        named: set[str] = set()
        for claims in said:
            found: Any = claims
            for part in self._settings.oidc_roles_claim.split("."):
                found = found.get(part) if isinstance(found, Mapping) else None
            named |= {found} if isinstance(found, str) else set(found or ())
        if self._settings.oidc_update_role in named:
            return roles_of(UPDATE)
        return roles_of(VIEW) if self._settings.oidc_view_role in named else frozenset()


def _name(claims: Mapping[str, Any]) -> str:
    return str(next(claims[name] for name in NAMES if claims.get(name)))[:200]
