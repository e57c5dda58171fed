"""Every setting: its name, unit, default and meaning.

Settings are read from environment variables with the prefix `TIS_SYNC_` (`tcs_url` is
`TIS_SYNC_TCS_URL`), or from a file called `.env` in the working directory. Without any settings,
all data is in the folder `home`.
"""

from enum import StrEnum
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tis_sync.iso_day import IsoDay, iso_day

PREFIX = "TIS_SYNC_"
FILE = ".env"
# These have another type than SecretStr, but may contain passwords, so they are never shown.
HIDDEN = frozenset({"notification_urls", "export_options"})
HOURS_OF_DAY = 24


class LogFormat(StrEnum):
    """The format of log lines."""

    CONSOLE = "console"  # for people
    JSON = "json"  # one object per line


class Settings(BaseSettings):
    """The configuration of one process; immutable."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=FILE, extra="ignore", frozen=True)

    # Data and servers
    home: Path = Field(
        Path(".tis-sync"),
        description="Folder for embedded data, locks, and temporary files of runs (about 0.5 GB "
        "per million people).",
    )
    tcs_url: SecretStr | None = Field(
        None,
        description="TCS, as an SQLAlchemy URL. For TLS add ssl_ca=FILE to its query (see "
        "docs/tcs.md). Default: the SQLite file tcs.sqlite in the home folder.",
    )
    tcs_timeout_seconds: float = Field(
        120.0,
        gt=0,
        description="How long TCS may be silent while we wait for an answer. After that, the read "
        "or write fails, and is retried like after a lost connection. In seconds.",
    )
    state_url: SecretStr | None = Field(
        None,
        description="The state database (runs, alarms, workflows), as an SQLAlchemy URL. Several "
        "machines need PostgreSQL. Default: SQLite files in the home folder.",
    )
    search_url: SecretStr | None = Field(
        None,
        description="The search server: elasticsearch+http(s)://HOST:PORT, "
        "opensearch+http(s)://HOST:PORT or embedded:FOLDER. Default: embedded, in the folder "
        "search of the home folder.",
    )

    # The night
    night_times: dict[str, str] = Field(
        default_factory=dict,
        description="Times of jobs (UTC) that replace the built-in times: "
        '{"PersonOwnerRebuildJob": "00:05"}.',
    )
    night_start_hours: tuple[int, int] = Field(
        (0, 7),
        description="A worker that starts between these hours (UTC) runs the whole night "
        "immediately. [22, 4] means from 22:00 to 04:00. Equal hours: never.",
        examples=["a JSON list of two hours from 0 to 24, such as [0, 7] or [22, 4]"],
    )
    due_minutes: int = Field(
        60,
        ge=1,
        description="A scheduled job is overdue if it has not succeeded within this time after "
        "its scheduled time. In minutes.",
    )
    record_status_date_override: str = Field(
        "NONE",
        description="What `--date NONE` means to PersonRecordStatusJob: YYYY-MM-DD, ANY, or NONE "
        "for today.",
        examples=["YYYY-MM-DD", "ANY", "NONE"],
    )
    java_shedlock: bool = Field(
        False,
        description="The Java service is still running, so each job also takes its lock in the "
        "TCS table shedlock.",
    )
    shedlock_minutes: int = Field(
        60, ge=1, description="The longest time for which such a lock is taken. In minutes."
    )

    # Guard and alarms
    guard_share: float = Field(
        0.10,
        ge=0,
        le=1,
        description="The guard holds a plan that removes or empties more than this share of a "
        "table, or shrinks an index by more.",
    )
    guard_rows: int = Field(
        100, ge=0, description="The guard never holds a plan that removes at most this many rows."
    )
    unusual_size_share: float = Field(
        0.20,
        gt=0,
        description="An index whose size differs from the usual size by more than this share "
        "opens an alarm before it is published.",
    )
    unusual_duration_factor: float = Field(
        3.0,
        gt=1,
        description="A run that takes more than this many times the usual time opens an alarm "
        "while it is running.",
    )
    set_aside_limit: int = Field(
        1000,
        ge=0,
        description="A run that sets aside more records than this opens an alarm.",
    )
    notification_urls: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Notification channels for alarms, as Apprise URLs separated by spaces. "
        "Alarms are always logged as well.",
    )
    notify_runs: bool = Field(False, description="Also notify people when runs start and finish.")

    # Load on TCS and memory
    partition_keys: int = Field(
        200_000,
        ge=1,
        description="Keys per partition, the unit in which large jobs are planned and applied. "
        "Memory grows with it.",
    )
    partitions_at_once: int = Field(
        3, ge=1, le=64, description="Partitions that one worker handles concurrently."
    )

    # Search
    rebuild_share: float = Field(
        0.30,
        ge=0,
        le=1,
        description="If more than this share of an index differs, it is rebuilt behind its alias "
        "instead of being changed in place.",
    )
    chunk_bytes: int = Field(
        8_000_000,
        ge=1_000,
        description="The largest body of a bulk request to a search server. In bytes.",
    )
    chunks_in_flight: int = Field(
        4, ge=1, le=64, description="The maximum number of concurrent bulk requests of one process."
    )
    bulk_retry_timeout_seconds: float = Field(
        600.0,
        gt=0,
        description="How long a refused chunk is retried before the build fails. In seconds.",
    )
    bulk_target_seconds: float = Field(
        10.0,
        gt=0,
        description="A bulk request that takes longer reduces the number of concurrent requests. "
        "In seconds.",
    )
    search_shards: int = Field(1, ge=1, description="Primary shards of a new index.")
    search_replicas: int = Field(0, ge=0, description="Replicas of a published index.")
    search_timeout_seconds: float = Field(
        60.0, gt=0, description="How long to wait for a search request. In seconds."
    )

    # Export to ESR
    esr: bool = Field(
        True, description="Generate records and export files to ESR automatically, on schedule."
    )
    export_url: SecretStr | None = Field(
        None,
        description="The destination of files for ESR, as an fsspec URL: a folder, "
        "sftp://USER@HOST:PORT/PATH or s3://BUCKET/PATH. Default: the folder esr in the home "
        "folder.",
    )
    export_options: dict[str, Any] = Field(
        default_factory=dict,
        description="Further options of the destination, named as in fsspec: "
        '{"endpoint_url": "https://..."}. SFTP needs known_hosts or host_key_fingerprint (see '
        "docs/esr.md). Never shown.",
        repr=False,
    )
    export_probe_folder: str | None = Field(
        None,
        description="A folder of the destination, beside the one for files, in which "
        "`tis-sync doctor` and workers write and remove a small file to check that files are "
        "accepted: /PATH, or BUCKET/PATH in S3. The partner must not collect files from it. "
        "Default: none; the destination is only read.",
    )
    esr_layouts: Path | None = Field(
        None,
        description="A folder with layouts (app.toml, notification.toml) that replace the built-in "
        "ones.",
    )
    esr_deaneries: dict[str, str] = Field(
        default_factory=dict,
        description="Deaneries by the first part of a post number, where it is not the code of "
        'the deanery: {"XYZ": "KSS"}.',
    )
    esr_generate_minutes: int = Field(
        15, ge=1, le=59, description="How often records are refreshed. In minutes."
    )
    esr_export_days: int = Field(
        31,
        ge=0,
        description="Files can be requested for today and for this many days before. Nothing is "
        "exported into a file of an earlier day. In days.",
    )
    esr_last_numbers: dict[str, int] = Field(
        default_factory=dict,
        description="The last number that the previous exporter used, for each file type: "
        '{"APP": 4711}. Ignored after the first file of tis-sync.',
    )
    esr_notifications_since: IsoDay | None = Field(
        None,
        description="The previous exporter sent the notifications made before this day "
        "(YYYY-MM-DD).",
    )
    esr_retry_seconds: tuple[float, ...] = Field(
        (5, 15, 60, 120, 300, 600, 900),
        description="Waits before the retries of an export command; after the last retry the "
        "command is dead. In seconds.",
    )

    # Messages
    broker_url: SecretStr | None = Field(
        None,
        description="RabbitMQ: amqp(s)://USER:PASSWORD@HOST:PORT/VHOST. Default: none; no messages "
        "are consumed and no events are sent.",
    )
    broker_api_url: SecretStr | None = Field(
        None,
        description="The management API of RabbitMQ, for `tis-sync doctor`: "
        "http(s)://USER:PASSWORD@HOST:PORT.",
    )
    broker_names: dict[str, str] = Field(
        default_factory=dict,
        description='Other names for queues and exchanges: {"esr.exchange": "tis.exchange"}.',
    )

    # Web console
    web_url: str | None = Field(
        None,
        description="The public address of the console: https://HOST[:PORT]. Required with a "
        "sign-in provider, and refused without one. Default: this machine only.",
        pattern=r"^https?://[^/?#@]+$",
        examples=["https://HOST[:PORT]"],
    )
    web_requests_a_minute: int = Field(
        1200,
        ge=1,
        description="The maximum number of requests per minute from one address; further requests "
        "are refused.",
    )
    web_proxies: tuple[str, ...] = Field(
        (),
        description="The addresses or networks of the proxies in front of the console, whose "
        "X-Forwarded-For and X-Forwarded-Proto are believed. Default: none; then all "
        'requests of a proxy count as one client. Example: ["10.0.0.5", "10.1.0.0/16"].',
        examples=['a JSON list of addresses and networks, such as ["10.0.0.5", "10.1.0.0/16"]'],
    )
    web_body_bytes: int = Field(
        64_000, ge=1_000, description="The largest body of a request to the console. In bytes."
    )
    web_body_seconds: float = Field(
        10.0, gt=0, description="How long to wait for the body of a request. In seconds."
    )

    # Sign-in
    oidc_issuer: str | None = Field(
        None,
        description="The issuer URL of the sign-in provider (OpenID Connect). Default: none; the "
        "console is available on this machine only.",
    )
    oidc_client_id: str = Field(
        "tis-sync", description="The client id of tis-sync at the provider."
    )
    oidc_client_secret: SecretStr | None = Field(
        None,
        description="The client secret of tis-sync at the provider. Default: none; tis-sync is a "
        "public client with PKCE.",
    )
    oidc_audience: str | None = Field(
        None,
        description="The required audience (`aud`) of a bearer token. Default: the client id.",
    )
    oidc_roles_claim: str = Field(
        "realm_access.roles",
        description="The claim of a token that contains the roles; dots separate levels. The "
        "default is Keycloak's claim.",
    )
    oidc_metrics_role: str = Field(
        "tis-sync-metrics", description="The role for reading the metrics, and nothing else."
    )
    oidc_view_role: str = Field(
        "tis-sync-view", description="The role for read-only access without personal data."
    )
    oidc_personal_role: str = Field(
        "tis-sync-personal",
        description="The role for read-only access that includes personal data. Each look at them "
        "is in the audit log.",
    )
    oidc_update_role: str = Field(
        "tis-sync-update",
        description="The role for making changes. It does not include personal data.",
    )
    oidc_keys_seconds: float = Field(
        300.0,
        gt=0,
        description="How long the provider's keys are trusted before they are fetched again. A "
        "token with an unknown key causes this earlier, at most twice a minute. In seconds.",
    )
    oidc_timeout_seconds: float = Field(
        10.0, gt=0, description="How long to wait for the provider. In seconds."
    )
    session_hours: float = Field(
        12.0, gt=0, description="The lifetime of a session; users then sign in again. In hours."
    )
    session_check_minutes: float = Field(
        15.0,
        gt=0,
        description="How often the provider is asked whether a person is still signed in, and with "
        "which roles. If it issues no refresh tokens, the browser signs in again in the "
        "background, at the next page. In minutes.",
    )

    # Logs and history
    log_file: Path | None = Field(None, description="Also log to this file; it is rotated.")
    log_file_bytes: int = Field(
        10_000_000, ge=10_000, description="The size at which the log file is rotated. In bytes."
    )
    log_format: LogFormat = Field(
        LogFormat.CONSOLE, description="The format of log lines: console or json."
    )
    history_days: int = Field(
        400,
        ge=1,
        description="How long runs, generations, messages, export commands and the audit log are "
        "kept. In days.",
    )
    alarm_days: int = Field(
        400, ge=1, description="How long closed alarms and notifications are kept. In days."
    )
    esr_content_days: int = Field(
        180,
        ge=1,
        description="How long names, numbers and addresses are kept after a record was exported or "
        "withdrawn, and in the lines of its file. Numbers and states stay, so that nothing is sent "
        "twice; the file can no longer be sent again. In days.",
    )
    dead_letter_days: int = Field(
        90,
        ge=1,
        description="How long dead letters are kept with their content, sent back or not. In days.",
    )
    workflow_days: int = Field(
        7,
        ge=0,
        description="How long the records of finished workflows (DBOS) and the samples of dry runs "
        "are kept. In days.",
    )

    # Workers
    shutdown_wait_seconds: int = Field(
        30,
        ge=0,
        description="How long a worker that is shutting down waits for its running work. Other "
        "workers resume the rest. In seconds.",
    )
    heartbeat_seconds: float = Field(
        5.0, gt=0, description="The interval between heartbeats of a worker. In seconds."
    )
    worker_timeout_seconds: float = Field(
        20.0,
        gt=0,
        description="A worker without a heartbeat for this long is considered dead, and other "
        "workers take over its work. In seconds.",
    )
    clock_offset_seconds: float = Field(
        0.0,
        description="For rehearsals: added to the clock of this machine. In seconds.",
    )

    @field_validator("notification_urls", mode="before")
    @classmethod
    def _split_urls(cls, value: object) -> object:
        return value.split() if isinstance(value, str) else value

    @field_validator("night_start_hours")
    @classmethod
    def _check_hours(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not all(0 <= hour <= HOURS_OF_DAY for hour in value):
            raise ValueError("an hour is not between 0 and 24")
        return value

    @field_validator("web_proxies")
    @classmethod
    def _check_proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for network in value:
            ip_network(network)
        return value

    @field_validator("record_status_date_override")
    @classmethod
    def _check_override(cls, value: str) -> str:
        if value.upper() not in {"ANY", "NONE"}:
            iso_day(value)
        return value

    @property
    def embedded_state(self) -> bool:
        """Whether the state database is an SQLite file, which one process uses at a time."""
        return self.state_url is None or self.state_url.get_secret_value().startswith("sqlite")

    def tcs(self) -> str:
        """The SQLAlchemy URL of TCS, with its password."""
        return self._url(self.tcs_url, "tcs.sqlite")

    def state(self) -> str:
        """The SQLAlchemy URL of the state database, with its password."""
        return self._url(self.state_url, "state.sqlite")

    def dbos(self) -> str:
        """The SQLAlchemy URL of the database in which DBOS stores workflows, next to the state."""
        if not self.embedded_state:
            return self.state()
        if self.state_url is not None:
            return self.state_url.get_secret_value() + ".dbos"
        return self._url(None, "dbos.sqlite")

    def search(self) -> str:
        """The URL of the search server, with its password, or `embedded:FOLDER`."""
        if self.search_url is not None:
            return self.search_url.get_secret_value()
        return f"embedded:{self.home.absolute() / 'search'}"

    def export(self) -> str:
        """The URL of the destination of files for ESR, with its password."""
        if self.export_url is not None:
            return self.export_url.get_secret_value()
        return f"file://{self.home.absolute() / 'esr'}"

    def _url(self, url: SecretStr | None, file: str) -> str:
        if url is not None:
            return url.get_secret_value()
        return f"sqlite:///{self.home.absolute() / file}"
