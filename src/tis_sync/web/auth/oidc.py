"""The sign-in provider (OpenID Connect): people sign in with it, scripts send its tokens."""

import asyncio
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlencode

import httpx2
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import AsyncOAuth2Client
from joserfc.errors import InvalidKeyIdError

from tis_sync.audit import Channel
from tis_sync.errors import UnreachableError
from tis_sync.settings.model import Settings
from tis_sync.web.auth.claims import Kind, person_name, role_names, verified
from tis_sync.web.auth.identity import (
    METRICS,
    PERSONAL,
    UPDATE,
    VIEW,
    Caller,
    NotAllowedError,
    NotSignedInError,
    Role,
    roles_of,
)
from tis_sync.web.auth.provider_documents import ProviderDocuments

SCOPE = "openid profile email"


@dataclass(frozen=True)
class SignIn:
    """A sign-in that has begun.

    Attributes:
        url: where the browser goes.
        stored: what has to be stored until the browser comes back.

    """

    url: str
    stored: dict[str, str]


@dataclass(frozen=True)
class Person:
    """A person whom the provider has identified.

    Attributes:
        caller: the name and the roles.
        subject: identifies the person at the provider.
        refresh_token: with which the provider is asked again. None: it issues none.

    """

    caller: Caller
    subject: str
    refresh_token: str | None


class Provider:
    """The provider that the settings name.

    Args:
        settings: issuer, client and roles.
        clock: returns the current time, which decides whether a token or a key has expired.

    """

    def __init__(self, settings: Settings, clock: Callable[[], datetime]) -> None:
        self._settings, self._clock = settings, clock
        self._documents = ProviderDocuments(settings, clock)
        self._names = {
            METRICS: settings.oidc_metrics_role,
            VIEW: settings.oidc_view_role,
            PERSONAL: settings.oidc_personal_role,
            UPDATE: settings.oidc_update_role,
        }

    async def begin(self, callback: str) -> SignIn:
        """Begin a sign-in.

        Args:
            callback: the URL to which the provider sends the browser back.

        Raises:
            UnreachableError: the provider does not answer.

        """
        endpoint = await self._endpoint("authorization_endpoint")
        values = {"nonce": secrets.token_urlsafe(24), "verifier": secrets.token_urlsafe(48)}
        async with self._client(callback) as client:
            url, state = client.create_authorization_url(
                endpoint, nonce=values["nonce"], code_verifier=values["verifier"]
            )
        return SignIn(url, values | {"state": state})

    async def complete(self, callback: str, query: str, stored: Mapping[str, str]) -> Person:
        """Complete a sign-in and return the person.

        Args:
            callback: as for `begin`.
            query: the query of the request with which the browser came back.
            stored: what `begin` returned to be stored.

        Raises:
            NotSignedInError: the provider did not sign the person in, or not for us.
            NotAllowedError: the person has none of our roles.
            UnreachableError: the provider does not answer.

        """
        _check_answer(query)
        endpoint = await self._endpoint("token_endpoint")
        async with self._client(callback) as client:
            answer = await self._answer(
                lambda: client.fetch_token(
                    endpoint,
                    authorization_response=f"{callback}?{query}",
                    state=stored["state"],
                    code_verifier=stored["verifier"],
                ),
                "The sign-in failed",
            )
        return await self._person(answer, nonce=stored["nonce"])

    async def refresh(self, subject: str, refresh_token: str) -> Person:
        """Ask the provider whether a person is still signed in, and for the roles of now.

        Args:
            subject: the person at the provider.
            refresh_token: from the last answer of the provider.

        Raises:
            NotSignedInError: the provider has ended the session.
            NotAllowedError: the person has none of our roles any more.
            UnreachableError: the provider does not answer.

        """
        endpoint = await self._endpoint("token_endpoint")
        async with self._client(None) as client:
            answer = await self._answer(
                lambda: client.refresh_token(endpoint, refresh_token=refresh_token),
                "The session has ended",
            )
        person = await self._person(answer, nonce=None)
        if person.subject != subject:
            raise NotSignedInError("The provider answers for another person. Sign in again.")
        return person

    async def bearer(self, token: str) -> Caller:
        """Return the holder of one of the provider's tokens.

        Raises:
            NotSignedInError: the token is malformed, expired, of another issuer or not for us, or
                not an access token.
            NotAllowedError: the token contains none of our roles.
            UnreachableError: the provider does not answer.

        """
        audience = self._settings.oidc_audience or self._settings.oidc_client_id
        claims = await self._verified(token, Kind.ACCESS, audience)
        roles = self._roles(claims)
        if not roles:
            raise NotAllowedError(f"This token contains neither {self._role_list()}.")
        return Caller(person_name(claims), Channel.BEARER, roles)

    async def sign_out_url(self, back: str) -> str | None:
        """Return the URL that ends the session at the provider and then leads to `back`.

        None: the provider does not offer this, or does not answer.
        """
        try:
            endpoint = (await self._documents.metadata()).get("end_session_endpoint")
        except UnreachableError:
            return None
        if endpoint is None:
            return None
        query = {"client_id": self._settings.oidc_client_id, "post_logout_redirect_uri": back}
        return f"{endpoint}?{urlencode(query)}"

    def _client(self, callback: str | None) -> AsyncOAuth2Client:
        secret = self._settings.oidc_client_secret
        return AsyncOAuth2Client(
            self._settings.oidc_client_id,
            None if secret is None else secret.get_secret_value(),
            token_endpoint_auth_method="none" if secret is None else "client_secret_basic",
            # To ask again is to ask for what was granted; naming more would be refused.
            scope=None if callback is None else SCOPE,
            redirect_uri=callback,
            code_challenge_method="S256",
            timeout=self._documents.timeout_seconds,
            verify=self._documents.tls,
        )

    async def _endpoint(self, name: str) -> str:
        endpoint = (await self._documents.metadata()).get(name)
        if not isinstance(endpoint, str):
            raise self._documents.unreachable(TypeError(f"it publishes no {name}"))
        return endpoint

    async def _answer(
        self, request: Callable[[], Awaitable[Mapping[str, Any]]], failed: str
    ) -> Mapping[str, Any]:
        """The answer of the token endpoint."""
        try:
            async with asyncio.timeout(self._documents.timeout_seconds):
                return await request()
        except AuthlibBaseError as error:
            reason = str(error.description or error.error).rstrip(".")
            raise NotSignedInError(f"{failed}: {reason}. Sign in again.") from None
        except (httpx2.HTTPError, ValueError, TimeoutError) as error:
            raise self._documents.unreachable(error) from None

    async def _person(self, answer: Mapping[str, Any], *, nonce: str | None) -> Person:
        """The person in an answer of the token endpoint.

        The answer to a refresh has no nonce, or the one of the sign-in; it needs no verification.
        """
        identity = answer.get("id_token")
        if not isinstance(identity, str):
            raise NotSignedInError("The provider sent no identity token. Sign in again.")
        client = self._settings.oidc_client_id
        claims = await self._verified(identity, Kind.IDENTITY, client)
        if claims.get("azp", client) != client:
            raise NotSignedInError("The identity token is for another client. Sign in again.")
        if nonce is not None and claims.get("nonce") != nonce:
            raise NotSignedInError("This is the end of another sign-in. Sign in again.")
        roles = self._roles(claims, await self._access_claims(answer, claims["sub"]))
        name = person_name(claims)
        if not roles & {VIEW}:
            raise NotAllowedError(
                f"{name} has neither {self._role_list(METRICS)}. Ask the administrator of the "
                "sign-in provider for one of them."
            )
        refresh = answer.get("refresh_token")
        caller = Caller(name, Channel.SESSION, roles)
        return Person(caller, claims["sub"], refresh if isinstance(refresh, str) else None)

    async def _verified(self, token: str, kind: Kind, audience: str | None) -> dict[str, Any]:
        """The claims of a token; an unknown key id makes us fetch the keys again."""
        for newer in (False, True):
            keys = await self._documents.keys(newer=newer)
            try:
                return verified(
                    token,
                    keys,
                    kind=kind,
                    issuer=self._documents.issuer,
                    audience=audience,
                    now=self._clock(),
                )
            except InvalidKeyIdError:
                continue
        raise NotSignedInError("This token is not accepted: its key is not one of the provider's.")

    async def _access_claims(self, answer: Mapping[str, Any], subject: str) -> Mapping[str, Any]:
        """The claims of the access token: Keycloak puts roles there by default."""
        access = str(answer.get("access_token", ""))
        if access.count(".") != 2:
            return {}
        try:
            claims = await self._verified(access, Kind.ACCESS, None)
        except NotSignedInError:
            return {}
        return claims if claims["sub"] == subject else {}

    def _roles(self, *tokens: Mapping[str, Any]) -> frozenset[Role]:
        path = self._settings.oidc_roles_claim
        names = {name for claims in tokens for name in role_names(claims, path)}
        return roles_of(*(role for role, name in self._names.items() if name in names))

    def _role_list(self, *without: Role) -> str:
        names = [repr(name) for role, name in self._names.items() if role not in without]
        return f"the role {' nor '.join(names)}"


def _check_answer(query: str) -> None:
    """Check that the browser brings a code from the provider.

    Raises:
        NotSignedInError: it brings an error, or nothing.

    """
    values = parse_qs(query)
    if "error" in values:
        # Only the code: anybody can write the description into a link.
        code = re.fullmatch("[a-z_]{1,60}", values["error"][0])
        reason = f" ({code[0]})" if code else ""
        raise NotSignedInError(f"The provider refused the sign-in{reason}. Sign in again.")
    if "code" not in values:
        raise NotSignedInError("The provider sent no code. Sign in again.")
    if len(values["code"]) > 1:
        raise NotSignedInError("The sign-in failed: there are several codes. Sign in again.")
