"""Every setting, in one place: its name, unit, default and meaning.

Each is read from the environment, with the prefix `TIS_SYNC_` (`tcs_url` is `TIS_SYNC_TCS_URL`),
or from a file `.env` in the working directory. Without any, all data lives in the folder `home`.
"""

from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from tis_sync.errors import UsageError

JobTimes = dict[str, str]


class Settings(BaseSettings):
    """The whole configuration of one process; immutable."""

    model_config = SettingsConfigDict(
        env_prefix="TIS_SYNC_", env_file=".env", extra="ignore", frozen=True
    )

    home: Path = Field(
        Path(".tis-sync"),
        description="Folder of all embedded data and locks, and of what is kept on disk during a "
        "run: some 0.5 GB a million people.",
    )
    tcs_url: SecretStr | None = Field(
        None, description="TCS, as an SQLAlchemy URL. Default: SQLite file tcs.sqlite in the home."
    )
    state_url: SecretStr | None = Field(
        None,
        description="Our own state (runs, alarms, DBOS): SQLAlchemy URL of PostgreSQL for several "
        "machines. Default: SQLite files in the home.",
    )
    search_url: SecretStr | None = Field(
        None,
        description="elasticsearch+http(s)://HOST:PORT, opensearch+http(s)://HOST:PORT or "
        "embedded:FOLDER. Default: embedded, folder search in the home.",
    )

    night_times: JobTimes = Field(
        default_factory=dict,
        description='Other times than the built-in ones, UTC: {"PersonOwnerRebuildJob": "00:05"}.',
    )
    night_start_hours: tuple[int, int] = Field(
        (0, 7),
        description="A worker started from the first to before the second hour (UTC) runs "
        "the whole night. Equal hours: never.",
    )
    due_minutes: int = Field(
        60,
        ge=1,
        description="A scheduled job that has not succeeded this long after its time is "
        "overdue: minutes.",
    )
    record_status_date_override: str = Field(
        "NONE",
        description="What `--date NONE` of PersonRecordStatusJob means: YYYY-MM-DD, ANY, "
        "or NONE for today.",
    )
    java_shedlock: bool = Field(
        False, description="The Java service still runs: take its row in TCS's shedlock table."
    )
    shedlock_minutes: int = Field(
        60, ge=1, description="How long such a row is taken at the most: minutes."
    )

    partition_keys: int = Field(
        200_000,
        ge=1,
        description="Width of the key range that is planned and applied at a time: "
        "keys. Memory grows with it.",
    )
    partitions_at_once: int = Field(
        3, ge=1, le=64, description="Partitions that one worker handles at a time."
    )
    guard_share: float = Field(
        0.10,
        ge=0,
        le=1,
        description="A plan that removes or empties more than this share of a "
        "table, or an index that shrinks by more, is held.",
    )
    guard_rows: int = Field(
        100, ge=0, description="A plan that removes no more rows than this is never held."
    )
    unusual_size_share: float = Field(
        0.20,
        gt=0,
        description="An index that differs from the usual size by more than this share "
        "raises an alarm before it is published.",
    )
    unusual_duration_factor: float = Field(
        3.0,
        gt=1,
        description="A run that takes more than this many times the usual raises an "
        "alarm while it still runs.",
    )
    set_aside_limit: int = Field(
        1000, ge=0, description="More records than this set aside in one run raise an alarm."
    )
    rebuild_share: float = Field(
        0.30,
        ge=0,
        le=1,
        description="An index of which more than this share differs is built "
        "anew behind its alias, not changed in place.",
    )

    chunk_bytes: int = Field(
        8_000_000, ge=1_000, description="Largest body of one bulk request to a search server."
    )
    chunks_in_flight: int = Field(
        4, ge=1, le=64, description="Bulk requests under way at once, at the most, by one process."
    )
    bulk_patience_seconds: float = Field(
        600.0, gt=0, description="How long a refused chunk is tried again before the build fails."
    )
    bulk_target_seconds: float = Field(
        10.0, gt=0, description="A bulk request slower than this lowers the pressure."
    )
    search_shards: int = Field(1, ge=1, description="Primary shards of an index that we build.")
    search_replicas: int = Field(0, ge=0, description="Replicas of an index that we publish.")
    search_timeout_seconds: float = Field(60.0, gt=0, description="Wait for one search request.")

    export_url: SecretStr | None = Field(
        None,
        description="Where files for ESR go, as an fsspec URL: a folder, "
        "sftp://USER@HOST:PORT/PATH or s3://BUCKET/PATH. Default: the folder esr in the home.",
    )
    export_options: dict[str, Any] = Field(
        default_factory=dict,
        description='What else that destination wants, as fsspec names it: {"endpoint_url": '
        '"https://..."}. Never shown.',
        repr=False,
    )
    esr: bool = Field(
        True, description="Generate records and export to ESR by themselves, at their times."
    )
    esr_layouts: Path | None = Field(
        None, description="Folder with layouts (app.toml, dnc.toml, dnf.toml) that replace ours."
    )
    esr_deaneries: dict[str, str] = Field(
        default_factory=dict,
        description="Which deanery the first part of a post number means, where not that of its "
        'own name: {"XYZ": "KSS"}.',
    )
    esr_generate_minutes: int = Field(
        15, ge=1, le=59, description="How often records are brought up to date: minutes."
    )
    esr_first_numbers: dict[str, int] = Field(
        default_factory=dict,
        description="The last number of each file type that the exporter before us took: "
        '{"APP": 4711}. Counts until the first file of ours.',
    )
    esr_since: date | None = Field(
        None,
        description="Notifications made before this day were sent by the exporter before us.",
    )
    esr_retry_seconds: tuple[float, ...] = Field(
        (5, 15, 60, 120, 300, 600, 900),
        description="Waits between the attempts of an export command, seconds; after the last "
        "attempt it is dead.",
    )

    broker_url: SecretStr | None = Field(
        None,
        description="RabbitMQ: amqp(s)://USER:PASSWORD@HOST:PORT/VHOST. Default: none; nothing "
        "is listened to, no events are sent.",
    )
    broker_api_url: SecretStr | None = Field(
        None,
        description="Its management API, for `tis-sync doctor`: http(s)://USER:PASSWORD@HOST:PORT.",
    )
    broker_names: dict[str, str] = Field(
        default_factory=dict,
        description='Other names of queues and exchanges: {"esr.exchange": "tis.exchange"}.',
    )

    web_url: str | None = Field(
        None,
        description="Where people reach the console from outside: https://HOST[:PORT]. Needed with "
        "a sign-in provider. Default: this machine only.",
        pattern=r"^https?://[^/?#@]+$",
    )
    web_requests_a_minute: int = Field(
        1200, ge=1, description="Requests that one address may make in a minute; more are refused."
    )
    web_body_bytes: int = Field(
        64_000, ge=1_000, description="Largest body of a request to the console: bytes."
    )
    web_body_seconds: float = Field(
        10.0, gt=0, description="How long the console waits for a request's body: seconds."
    )
    oidc_issuer: str | None = Field(
        None,
        description="The sign-in provider (OpenID Connect), by its issuer URL. Default: none; the "
        "console answers on this machine only.",
    )
    oidc_client_id: str = Field("tis-sync", description="Our name at the provider.")
    oidc_client_secret: SecretStr | None = Field(
        None, description="Our secret at the provider. Default: none, a public client with PKCE."
    )
    oidc_audience: str | None = Field(
        None,
        description="Whom a bearer token must be meant for (`aud`). Default: the client id.",
    )
    oidc_roles_claim: str = Field(
        "realm_access.roles",
        description="Where a token names roles; a dot leads into an object. Default: Keycloak's.",
    )
    oidc_view_role: str = Field("tis-sync-view", description="The role that may look.")
    oidc_update_role: str = Field("tis-sync-update", description="The role that may change.")
    session_hours: float = Field(
        12.0, gt=0, description="Who signed in has to do so again after this time: hours."
    )

    alert_urls: Annotated[list[str], NoDecode] = Field(
        default_factory=list,
        description="Where alarms go, as Apprise URLs, parted by blanks. The log always gets them.",
    )
    alert_runs: bool = Field(False, description="Also tell when runs start and finish.")
    log_file: Path | None = Field(None, description="Also log to this file, rotating.")
    log_file_bytes: int = Field(10_000_000, ge=10_000, description="Rotate after this many bytes.")
    log_format: Literal["console", "json"] = Field("console", description="Form of log lines.")
    history_days: int = Field(
        400, ge=1, description="How long runs, generations and messages are kept: days."
    )

    clock_offset_seconds: float = Field(
        0.0,
        description="For rehearsals: the program's clock is so far ahead of the machine's.",
    )
    stop_seconds: int = Field(
        30,
        ge=0,
        description="How long a worker that is asked to stop lets work under way come to its end, "
        "before the rest is handed back: seconds.",
    )
    heartbeat_seconds: float = Field(
        5.0, gt=0, description="How often a worker says that it lives."
    )
    dead_after_seconds: float = Field(
        20.0, gt=0, description="A worker silent for this long is dead: others take over its work."
    )

    @field_validator("alert_urls", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return value.split() if isinstance(value, str) else value

    @field_validator("record_status_date_override")
    @classmethod
    def _known_override(cls, value: str) -> str:
        if value.upper() not in {"ANY", "NONE"}:
            date.fromisoformat(value)
        return value

    @property
    def embedded_state(self) -> bool:
        """Whether our state lives in SQLite files of the home, for one process at a time."""
        return self.state_url is None or self.state_url.get_secret_value().startswith("sqlite")

    def tcs(self) -> str:
        """SQLAlchemy URL of TCS, with its password."""
        return self._url(self.tcs_url, "tcs.sqlite")

    def state(self) -> str:
        """SQLAlchemy URL of our state, with its password."""
        return self._url(self.state_url, "state.sqlite")

    def dbos(self) -> str:
        """SQLAlchemy URL of the database in which DBOS keeps workflows: beside our state."""
        if not self.embedded_state:
            return self.state()
        if self.state_url is not None:
            return self.state_url.get_secret_value() + ".dbos"
        return self._url(None, "dbos.sqlite")

    def search(self) -> str:
        """URL of the search server, with its password; `embedded:FOLDER` for none."""
        if self.search_url is not None:
            return self.search_url.get_secret_value()
        return f"embedded:{self.home.absolute() / 'search'}"

    def export(self) -> str:
        """URL of the place where files for ESR go, with its password."""
        if self.export_url is not None:
            return self.export_url.get_secret_value()
        return f"file://{self.home.absolute() / 'esr'}"

    def _url(self, given: SecretStr | None, file: str) -> str:
        if given is not None:
            return given.get_secret_value()
        return f"sqlite:///{self.home.absolute() / file}"


def load_settings() -> Settings:
    """Read the settings from the environment.

    Raises:
        UsageError: a value does not fit; the message names the variable, the value and why.

    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "TIS_SYNC_" + str(first["loc"][0]).upper()
        raise UsageError(f"{name}={first['input']!r} does not fit: {first['msg']}.") from None
