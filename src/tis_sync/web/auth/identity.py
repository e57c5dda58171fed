"""A caller of the console and its roles: metrics, view, personal, update."""

from dataclasses import dataclass
from enum import StrEnum

from tis_sync.audit import Actor, Channel
from tis_sync.errors import TisSyncError


class Role(StrEnum):
    """What a caller may do."""

    METRICS = "metrics"  # read the metrics, and nothing else
    VIEW = "view"  # see everything except personal data
    PERSONAL = "personal"  # view, and see personal data; each look is in the audit log
    UPDATE = "update"  # view, and start and change things


METRICS, VIEW, PERSONAL, UPDATE = Role.METRICS, Role.VIEW, Role.PERSONAL, Role.UPDATE


@dataclass(frozen=True)
class Caller:
    """A person or a machine that sends a request.

    Attributes:
        name: who it is, for the history and the audit log.
        channel: how the caller was identified.
        roles: all its roles, included ones too (see `roles_of`).

    """

    name: str
    channel: Channel
    roles: frozenset[Role]

    @property
    def can_view(self) -> bool:
        """Whether the caller may see pages and lists."""
        return VIEW in self.roles

    @property
    def can_update(self) -> bool:
        """Whether the caller may change something."""
        return UPDATE in self.roles

    @property
    def sees_personal_data(self) -> bool:
        """Whether the caller may see names, numbers and addresses of people."""
        return PERSONAL in self.roles

    @property
    def actor(self) -> Actor:
        """The caller, as the audit log records it."""
        return Actor(self.name, self.channel)


LOCAL = Caller("local", Channel.LOCAL, frozenset(Role))


def roles_of(*roles: Role) -> frozenset[Role]:
    """The given roles and those that they include: all others include view, and view metrics."""
    included = {*roles}
    if included & {PERSONAL, UPDATE}:
        included.add(VIEW)
    if VIEW in included:
        included.add(METRICS)
    return frozenset(included)


class NotSignedInError(TisSyncError):
    """The caller is unknown: nobody has signed in, or the token is not accepted. Status 401."""


class NotAllowedError(TisSyncError):
    """The caller is known, but may not do this. Status 403."""
