"""The checks of the state database: the version of its schema, and the privileges of our user."""

from collections.abc import Iterator

import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from tis_sync.doctor.finding import DRIFTED, MISSING, OK, Finding
from tis_sync.runs.services import Services
from tis_sync.state.database import MIGRATIONS, VERSION_TABLE
from tis_sync.state.privileges import DBOS_SCHEMA, lacking


def check_state_schema(s: Services) -> Iterator[Finding]:
    """Check that the schema has the version that this program needs."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    newest = ScriptDirectory.from_config(config).get_current_head()
    table = sa.table(VERSION_TABLE, sa.column("version_num"))
    with s.state.read() as connection:
        version = connection.scalar(sa.select(table.c.version_num))
    if version == newest:
        yield Finding("state schema", OK, f"version {version}")
    else:
        yield Finding(
            "state schema", DRIFTED, f"version {version}; this program needs version {newest}",
            "update this tis-sync; a newer version has used this state database",
        )  # fmt: skip


def check_state_privileges(s: Services) -> Iterator[Finding]:
    """Check that our user has all privileges on our tables and on those of DBOS."""
    if s.state.dialect != "postgresql":
        return
    for name, schema_name in (("state privileges", None), ("DBOS privileges", DBOS_SCHEMA)):
        missing = lacking(s.state, schema_name)
        for grant in missing:
            yield Finding(
                name, MISSING, f"the user lacks {grant}",
                f"GRANT {grant} TO the user of TIS_SYNC_STATE_URL",
            )  # fmt: skip
        if not missing:
            yield Finding(name, OK, "granted")
