"""One vocabulary: columns, tables and alarm kinds take the names that the code uses."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

TABLES = {"esr_letter": "esr_dead_letter", "esr_heard": "esr_last_contact"}
COLUMNS = {
    "run": {"who": "requested_by", "again": "rerun_requested"},
    "set_aside": {"source": "table_name", "record": "record_key"},
    "worker": {"buried_at": "claimed_at", "buried_by": "claimed_by"},
    "esr_record": {"held": "postponed", "source": "origin"},
    "esr_generation": {"who": "requested_by"},
    "esr_command": {"who": "requested_by"},
    "esr_file": {"turn": "revision", "told_at": "reported_at"},
    "esr_line": {"source": "subject"},
    "esr_message": {"taken_at": "received_at"},
    "esr_dead_letter": {"taken_at": "received_at"},
    "audit": {"who": "actor", "how": "channel"},
    "web_session": {"who": "user_name"},
}
ALARM_KINDS = {
    "size": "unusual size",
    "silent": "no worker",
    "no file": "file missing",
    "invalid": "invalid records",
    "TCS not told": "TCS not updated",
    "dead": "export failed",
    "stale": "records stale",
    "not heard": "broker silent",
}


def upgrade() -> None:
    """Rename in place: no row is copied, on SQLite as on PostgreSQL."""
    for old, new in TABLES.items():
        op.rename_table(old, new)
    for table, columns in COLUMNS.items():
        for old, new in columns.items():
            op.execute(f"ALTER TABLE {table} RENAME COLUMN {old} TO {new}")
    # The detail of a dry run was its sample.
    op.execute(
        "UPDATE run SET detail = '{\"sample\": ' || detail || '}' "
        "WHERE dry_run AND detail IS NOT NULL"
    )
    alarm = sa.table("alarm", sa.column("kind"), sa.column("subject"), sa.column("open_key"))
    for old, new in ALARM_KINDS.items():
        was = alarm.c.kind == old
        is_open = alarm.c.open_key.is_not(None)
        opened = sa.literal(f"{new}/").concat(alarm.c.subject)
        op.execute(sa.update(alarm).where(was, is_open).values(open_key=opened))
        op.execute(sa.update(alarm).where(was).values(kind=new))
