"""Who calls, and what they may do: look (view), or also change (update)."""

from dataclasses import dataclass

from tis_sync.errors import TisSyncError

VIEW, UPDATE = "view", "update"
ROLES = (VIEW, UPDATE)


@dataclass(frozen=True)
class Caller:
    """Somebody, or some machine, that a request comes from.

    Attributes:
        name: who it is, for the history and the audit log.
        how: by what we know: "session", "bearer" (a provider's token), "token" (ours), or "local"
            (this machine, where no provider is configured).
        roles: `VIEW`, or `VIEW` and `UPDATE`.

    """

    name: str
    how: str
    roles: frozenset[str]

    @property
    def can_update(self) -> bool:
        """Whether the caller may change something."""
        return UPDATE in self.roles


LOCAL = Caller("local", "local", frozenset(ROLES))


def roles_of(role: str) -> frozenset[str]:
    """What a role allows: who may change may look."""
    return frozenset(ROLES) if role == UPDATE else frozenset({VIEW})


class NotSignedInError(TisSyncError):
    """We do not know who calls: nobody signed in, or the token is none that we take. Status 401."""


class NotAllowedError(TisSyncError):
    """We know who calls, and that they may not do this. Status 403."""
