"""How a destination is reached: its URL and options, checked before anything is contacted.

A file goes only to the server that the settings name. So SFTP needs the server's host key, and S3
needs TLS with a certificate that is verified. Messages never contain a URL or the value of an
option that may be secret.
"""

import inspect
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints, ValidationError

from tis_sync import extras
from tis_sync.errors import DestinationSettingError

URL, OPTIONS = "TIS_SYNC_EXPORT_URL", "TIS_SYNC_EXPORT_OPTIONS"
PROBES = "TIS_SYNC_EXPORT_PROBE_FOLDER"
BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}")
EXAMPLES = "a folder, sftp://USER@HOST:PORT/PATH or s3://BUCKET/PATH"
HOW_TO_TRUST = (
    '{"known_hosts": FILE}, a file that `ssh-keyscan -p PORT HOST > FILE` writes, or '
    '{"host_key_fingerprint": "SHA256:..."}. Compare the fingerprint (`ssh-keygen -lf FILE`) with '
    "the one that the owner of the server gives you"
)
# Options that fsspec's SFTP takes beside those of asyncssh.
OF_SSHFS = frozenset({"timeout", "max_sessions", "sftp_client_kwargs"})
# What the URL says, or what would lead to another host or replace the check of its key.
NOT_OPTIONS = frozenset({"self", "loop", "host", "tunnel", "client_factory", "last_config"})


class Kind(StrEnum):
    """A kind of destination."""

    FOLDER = "folder"
    SFTP = "sftp"
    S3 = "s3"


SCHEMES = {
    "": Kind.FOLDER, "file": Kind.FOLDER, "local": Kind.FOLDER, "sftp": Kind.SFTP,
    "ssh": Kind.SFTP, "s3": Kind.S3, "s3a": Kind.S3,
}  # fmt: skip


@dataclass(frozen=True)
class Access:
    """How to open a destination.

    Attributes:
        kind: its kind.
        url: its URL for fsspec.
        arguments: the further arguments of its file system.
        secrets: the passwords and keys among them, which no message may contain.

    """

    kind: Kind
    url: str
    arguments: Mapping[str, Any]
    secrets: tuple[str, ...]


M = TypeVar("M", bound=BaseModel)


def _listed(value: object) -> object:
    if isinstance(value, str):
        return [value] if value else []
    return value


Texts = Annotated[list[str], BeforeValidator(_listed)]
Fingerprint = Annotated[str, StringConstraints(pattern=r"^SHA256:[A-Za-z0-9+/]{43}$")]


class _FolderOptions(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")

    auto_mkdir: bool = False


class _SftpOptions(BaseModel):
    """The options that are checked here; asyncssh checks the others."""

    model_config = ConfigDict(strict=True, extra="allow")

    known_hosts: Texts | None = None
    host_key_fingerprint: Annotated[list[Fingerprint], BeforeValidator(_listed)] | None = None
    client_keys: Texts | None = None
    username: str | None = None
    password: str | None = None
    passphrase: str | None = None
    port: int | None = None


class _S3Options(BaseModel):
    """The options of s3fs."""

    model_config = ConfigDict(strict=True, extra="forbid")

    key: str | None = None
    secret: str | None = None
    token: str | None = None
    username: str | None = None  # s3fs takes it for `key`
    password: str | None = None  # and this for `secret`
    profile: str | None = None
    endpoint_url: str | None = None
    anon: bool = False
    use_ssl: bool = True
    requester_pays: bool = False
    version_aware: bool = False
    cache_regions: bool = False
    fixed_upload_size: bool = False
    local_expiry_check: bool = False
    default_block_size: int | None = None
    max_concurrency: int = 10
    client_kwargs: dict[str, Any] = {}
    config_kwargs: dict[str, Any] = {}
    s3_additional_kwargs: dict[str, Any] = {}


def access(url: str, options: Mapping[str, Any]) -> Access:
    """Check the URL and the options of a destination, and return how to open it.

    Args:
        url: a folder, `file:///FOLDER`, `sftp://USER@HOST:PORT/FOLDER` or `s3://BUCKET/FOLDER`.
        options: further arguments of the file system, named as in fsspec, and
            `host_key_fingerprint` for SFTP.

    Raises:
        DestinationSettingError: they are malformed, or unsafe: the server could be any.
        UsageError: the package for the destination is not installed.

    """
    kind = _kind(url)
    if kind is Kind.FOLDER:
        _parsed(_FolderOptions, options)
        arguments = dict(options)
    elif kind is Kind.SFTP:
        arguments = _sftp_arguments(url, options)
    else:
        arguments = _s3_arguments(url, options)
    return Access(kind, url.rstrip("/"), arguments, _secrets(url, options))


def _kind(url: str) -> Kind:
    scheme, separator, _ = url.partition("://")
    kind = SCHEMES.get(scheme.lower() if separator else "")
    if kind is None or "::" in scheme:
        name = "a chain of file systems" if "::" in scheme else repr(scheme)
        raise DestinationSettingError(
            f"{URL} refuses access to {name}: it is not supported. Accepted: {EXAMPLES}."
        )
    if kind is not Kind.FOLDER and re.search(r"[?#]", url):
        raise DestinationSettingError(
            f"{URL} has a query or a fragment, which would be ignored. Options belong in {OPTIONS}."
        )
    return kind


def _parsed(model: type[M], options: Mapping[str, Any]) -> M:
    """Read options.

    Raises:
        DestinationSettingError: one is unknown or has another form; its value is not shown.

    """
    try:
        return model.model_validate(dict(options))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        raise _invalid(str(first["loc"][0]), first["msg"]) from None


def _invalid(option: str, reason: str) -> DestinationSettingError:
    return DestinationSettingError(
        f"{OPTIONS}: the option {option!r} is invalid: {reason[:1].lower()}{reason[1:]}."
    )


def _sftp_arguments(url: str, options: Mapping[str, Any]) -> dict[str, Any]:
    parsed = _parsed(_SftpOptions, options)
    if not urlsplit(url).hostname:
        raise DestinationSettingError(f"{URL} names no host. Accepted: {EXAMPLES}.")
    if not parsed.known_hosts and not parsed.host_key_fingerprint:
        raise DestinationSettingError(
            f"{OPTIONS} does not say which host key the SFTP server has, so another server could "
            f"receive the files and the password. Add {HOW_TO_TRUST}."
        )
    if parsed.known_hosts and parsed.host_key_fingerprint:
        raise DestinationSettingError(
            f"{OPTIONS} has both known_hosts and host_key_fingerprint. Remove one of them."
        )
    for file in parsed.known_hosts or ():
        try:
            Path(file).read_bytes()
        except OSError as error:
            raise _invalid("known_hosts", f"{file!r} cannot be read ({error.strerror})") from None
    with extras.needs(extras.SFTP):
        import asyncssh

        from tis_sync.esr.files import host_keys
    known = set(inspect.signature(asyncssh.SSHClientConnectionOptions.prepare).parameters)
    for name in parsed.model_extra or ():
        if name not in (known | OF_SSHFS) - NOT_OPTIONS:
            raise _invalid(name, "there is no such option")
    arguments = {name: value for name, value in options.items() if name != "host_key_fingerprint"}
    if parsed.host_key_fingerprint:
        arguments = host_keys.arguments(tuple(parsed.host_key_fingerprint)) | {
            name: value for name, value in arguments.items() if name != "known_hosts"
        }
    own = {name: value for name, value in arguments.items() if name not in OF_SSHFS}
    try:
        asyncssh.SSHClientConnectionOptions(host=urlsplit(url).hostname or "", **own)
    except (OSError, TypeError, ValueError, asyncssh.Error) as error:
        raise DestinationSettingError(
            f"{OPTIONS} or a file that it names cannot be used: {type(error).__name__}: {error}."
        ) from None
    return arguments


def _s3_arguments(url: str, options: Mapping[str, Any]) -> dict[str, Any]:
    parsed = _parsed(_S3Options, options)
    bucket = url.partition("://")[2].partition("/")[0]
    if BUCKET.fullmatch(bucket) is None:
        raise DestinationSettingError(
            f"What follows s3:// in {URL} is not the name of a bucket. Keys do not belong in the "
            f"URL, but in {OPTIONS}, as key and secret."
        )
    endpoint = parsed.client_kwargs.get("endpoint_url") or ""
    endpoint = parsed.endpoint_url or (endpoint if isinstance(endpoint, str) else "")
    parts = urlsplit(endpoint)
    is_local = _is_this_machine(parts.hostname)
    uses_tls = parsed.client_kwargs.get("use_ssl", parsed.use_ssl)
    if (parts.scheme != "https" if endpoint else not uses_tls) and not is_local:
        raise DestinationSettingError(
            f"{OPTIONS} turns off TLS, so the files would be sent in clear, to any server that "
            "answers. Use an endpoint_url that begins with https://."
        )
    if parsed.client_kwargs.get("verify") is False and not is_local:
        raise DestinationSettingError(
            f"{OPTIONS} turns off the verification of certificates, so any server could receive "
            'the files. Name the certificate of the authority: {"client_kwargs": {"verify": FILE}}.'
        )
    return dict(options)


def _is_this_machine(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ip_address(host or "").is_loopback
    except ValueError:
        return False


def _secrets(url: str, options: Mapping[str, Any]) -> tuple[str, ...]:
    """The passwords and keys in the URL and the options."""
    user = url.partition("://")[2].rpartition("@")[0]
    names = ("password", "passphrase", "secret", "token", "pkcs11_pin")
    nested = options.get("client_kwargs")
    found = [user.partition(":")[2], *(options.get(name) for name in names)]
    if isinstance(nested, Mapping):
        found += [value for name, value in nested.items() if name.startswith("aws_")]
    return tuple(text for text in found if isinstance(text, str) and text)


def probe_folder(target: Access, folder: str, path: str) -> str:
    """Check the folder for probes, and return its path in the file system.

    Args:
        target: how the destination is opened.
        folder: the path of the destination itself: /folder, or bucket/folder.
        path: the path of the folder for probes, in the same form.

    Raises:
        DestinationSettingError: it is malformed, or ESR's partner may collect files from it.

    """
    if target.kind is Kind.FOLDER:
        is_absolute = path.startswith("/")
        own, probes = str(Path(folder).resolve()), str(Path(path).resolve())
    elif target.kind is Kind.SFTP:
        is_absolute = path.startswith("/")
        own, probes = (re.sub(r"^/+", "/", posixpath.normpath(f"/{p}")) for p in (folder, path))
    else:
        is_absolute = True
        own, probes = (posixpath.normpath(f"/{p}".replace("//", "/"))[1:] for p in (folder, path))
    if not is_absolute:
        raise DestinationSettingError(f"{PROBES}={path!r} is not an absolute path.")
    # In S3, a folder is only a prefix: whoever lists "in" also gets "in-probes".
    within = own.rstrip("/") + ("" if target.kind is Kind.S3 and "/" in own else "/")
    if f"{probes}/".startswith(within):
        raise DestinationSettingError(
            f"{PROBES}={path!r} is in the folder that files are exported to, where the partner "
            "would collect the probes. Choose a folder beside it, or remove the setting."
        )
    return probes
