"""Optional packages: the extras of `tis-sync`, and how to import them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from tis_sync.errors import UsageError


@dataclass(frozen=True)
class Extra:
    """An optional part of the installation.

    Attributes:
        name: the name of the extra in pyproject.toml.
        title: what needs it, for messages.
        package: the package that it installs.

    """

    name: str
    title: str
    package: str


ELASTICSEARCH = Extra("elasticsearch", "Elasticsearch", "elasticsearch")
OPENSEARCH = Extra("opensearch", "OpenSearch", "opensearch-py")
S3 = Extra("s3", "S3", "s3fs")
SFTP = Extra("sftp", "SFTP", "sshfs")
RABBITMQ = Extra("rabbitmq", "RabbitMQ", "faststream")
EXTRAS = (ELASTICSEARCH, OPENSEARCH, S3, SFTP, RABBITMQ)


@contextmanager
def needs(extra: Extra) -> Iterator[None]:
    """Import the packages of an extra inside the block.

    Raises:
        UsageError: they are not installed; the message says how to install them.

    """
    try:
        yield
    except ImportError as error:
        if (error.name or "").startswith("tis_sync"):
            raise
        raise UsageError(
            f"{extra.title} needs the package {extra.package}, which is not installed: "
            f"pip install 'tis-sync[{extra.name}]'."
        ) from error
