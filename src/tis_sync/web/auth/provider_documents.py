"""What the provider publishes: its discovery document and its keys, fetched and kept for a while.

Nobody holds a thread or a lock while the provider is asked: requests that need a document await the
same fetch. A failure is remembered too, so a provider that hangs delays only those who ask first.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Generic, TypeVar

import httpx2
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from tis_sync.errors import TisSyncError, UnreachableError, UsageError
from tis_sync.settings.model import Settings

FAILURE_TIME = timedelta(seconds=10)  # for which a failure is remembered
RENEWAL_TIME = timedelta(seconds=30)  # at least this long between two fetches for unknown key ids

T = TypeVar("T")


class Document(Generic[T]):
    """A document that is fetched when it is needed, by one request at a time, and then expires.

    Args:
        fetch: fetches it.
        clock: returns the current time.
        lifetime: how long it is valid.

    """

    def __init__(
        self,
        fetch: Callable[[], Awaitable[T]],
        clock: Callable[[], datetime],
        lifetime: timedelta,
    ) -> None:
        self._fetch, self._clock, self._lifetime = fetch, clock, lifetime
        self._value: T | None = None
        self._fetched_at: datetime | None = None
        self._tried_at: datetime | None = None
        self._error: TisSyncError | None = None
        self._fetching: asyncio.Task[None] | None = None

    async def get(self, *, newer: bool = False) -> T:
        """Return the document.

        Args:
            newer: fetch it again although it is valid, unless that has just been tried.

        Raises:
            UnreachableError: the provider does not answer, or did not a moment ago.
            UsageError: the document belongs to another provider.

        """
        is_valid = self._is_within(self._lifetime, self._fetched_at)
        if is_valid and not (newer and not self._is_within(RENEWAL_TIME, self._tried_at)):
            assert self._value is not None
            return self._value
        if self._fetching is None:
            if self._error is not None and self._is_within(FAILURE_TIME, self._tried_at):
                raise type(self._error)(str(self._error))
            self._fetching = asyncio.create_task(self._keep_fetched())
        await asyncio.shield(self._fetching)
        if self._error is not None:
            raise type(self._error)(str(self._error))
        assert self._value is not None
        return self._value

    async def _keep_fetched(self) -> None:
        try:
            self._value, self._error = await self._fetch(), None
            self._fetched_at = self._clock()
        except TisSyncError as error:
            self._error = error
        finally:
            self._tried_at = self._clock()
            self._fetching = None

    def _is_within(self, period: timedelta, since: datetime | None) -> bool:
        # A clock that was set back must not prolong anything.
        return since is not None and timedelta(0) <= self._clock() - since < period


class ProviderDocuments:
    """The documents of the provider that the settings name.

    Args:
        settings: issuer, time limits.
        clock: returns the current time.

    """

    def __init__(self, settings: Settings, clock: Callable[[], datetime]) -> None:
        assert settings.oidc_issuer is not None
        self.issuer = settings.oidc_issuer
        self.timeout_seconds = settings.oidc_timeout_seconds
        self.tls: ssl.SSLContext = httpx2.create_ssl_context()  # reading certificates takes time
        lifetime = timedelta(seconds=settings.oidc_keys_seconds)
        self._metadata = Document(self._fetch_metadata, clock, lifetime)
        self._keys = Document(self._fetch_keys, clock, lifetime)

    async def metadata(self) -> dict[str, Any]:
        """Return the discovery document.

        Raises:
            UnreachableError, UsageError: as `Document.get`.

        """
        return await self._metadata.get()

    async def keys(self, *, newer: bool = False) -> KeySet:
        """Return the keys; with `newer`, those of now, unless they have just been fetched.

        Raises:
            UnreachableError, UsageError: as `Document.get`.

        """
        return await self._keys.get(newer=newer)

    def unreachable(self, error: Exception) -> UnreachableError:
        """Return the error that says that the provider does not answer, and why."""
        reason = "no answer in time" if isinstance(error, TimeoutError) else str(error)
        return UnreachableError(
            f"The sign-in provider {self.issuer} does not answer properly ({reason}). Check that "
            "it is running, and TIS_SYNC_OIDC_ISSUER."
        )

    async def _fetch_metadata(self) -> dict[str, Any]:
        document = await self._fetch(self.issuer.rstrip("/") + "/.well-known/openid-configuration")
        if document.get("issuer") != self.issuer:
            raise UsageError(
                f"TIS_SYNC_OIDC_ISSUER is {self.issuer}, but the provider at this address "
                f"calls itself {document.get('issuer')}. Both must be the same."
            )
        return document

    async def _fetch_keys(self) -> KeySet:
        document = await self._fetch(str((await self.metadata()).get("jwks_uri")))
        try:
            return KeySet.import_key_set(document)  # type: ignore[arg-type]
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise self.unreachable(error) from None

    async def _fetch(self, url: str) -> dict[str, Any]:
        try:
            async with (
                asyncio.timeout(self.timeout_seconds),
                httpx2.AsyncClient(verify=self.tls, timeout=self.timeout_seconds) as client,
            ):
                response = await client.get(url)
                response.raise_for_status()
                document = response.json()
        except (httpx2.HTTPError, httpx2.InvalidURL, ValueError, TimeoutError) as error:
            raise self.unreachable(error) from None
        if not isinstance(document, dict):
            raise self.unreachable(TypeError(f"{url} returns no JSON object"))
        return document
