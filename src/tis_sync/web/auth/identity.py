"""A caller of the console and its roles: view, or also update."""

from dataclasses import dataclass
from enum import StrEnum

from tis_sync.audit import Actor, Channel
from tis_sync.errors import TisSyncError


class Role(StrEnum):
    """What a caller may do."""

    VIEW = "view"  # see everything
    UPDATE = "update"  # see everything, start and change things


VIEW, UPDATE = Role.VIEW, Role.UPDATE


@dataclass(frozen=True)
class Caller:
    """A person or a machine that sends a request.

    Attributes:
        name: who it is, for the history and the audit log.
        channel: how the caller was identified.
        roles: `VIEW`, or `VIEW` and `UPDATE`.

    """

    name: str
    channel: Channel
    roles: frozenset[Role]

    @property
    def can_update(self) -> bool:
        """Whether the caller may change something."""
        return UPDATE in self.roles

    @property
    def actor(self) -> Actor:
        """The caller, as the audit log records it."""
        return Actor(self.name, self.channel)


LOCAL = Caller("local", Channel.LOCAL, frozenset(Role))


def roles_of(role: Role) -> frozenset[Role]:
    """The roles that a role includes: whoever may update may also view."""
    return frozenset(Role) if role is UPDATE else frozenset({role})


class NotSignedInError(TisSyncError):
    """The caller is unknown: nobody has signed in, or the token is not accepted. Status 401."""


class NotAllowedError(TisSyncError):
    """The caller is known, but may not do this. Status 403."""
