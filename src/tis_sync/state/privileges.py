"""Check that the user of the state database may use it: our tables, and those of DBOS."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import OID

from tis_sync.db.database import Database

DBOS_SCHEMA = "dbos"
EVERY = ("SELECT", "INSERT", "UPDATE", "DELETE")


def lacking(database: Database, schema: str | None = None) -> list[str]:
    """Find the privileges that the user of the state database lacks.

    Args:
        database: the state database. A user of SQLite needs no privileges.
        schema: the schema to look at. None: the one in which our tables are.

    Returns:
        What to grant, as the part of a GRANT after that word, without the user: "CREATE ON SCHEMA
        dbos"; empty if nothing is lacking.

    """
    if database.dialect != "postgresql":
        return []
    with database.read() as connection:
        name = schema or str(connection.scalar(sa.select(sa.func.current_schema())))
        namespace = sa.table("pg_namespace", sa.column("oid", OID), sa.column("nspname"))
        exists = connection.scalar(sa.select(namespace.c.oid).where(namespace.c.nspname == name))
        if exists is None:
            may_create = sa.func.has_database_privilege(sa.func.current_database(), "CREATE")
            if connection.scalar(sa.select(may_create)):
                return []
            database_name = connection.scalar(sa.select(sa.func.current_database()))
            return [f"CREATE ON DATABASE {database_name}"]
        for_schema = [
            privilege
            for privilege in ("USAGE", "CREATE")
            if not connection.scalar(sa.select(sa.func.has_schema_privilege(name, privilege)))
        ]
        if for_schema:
            return [f"{', '.join(for_schema)} ON SCHEMA {name}"]
        relation = sa.table(
            "pg_class", sa.column("oid", OID), sa.column("relname"), sa.column("relkind"),
            sa.column("relnamespace", OID),
        )  # fmt: skip
        granted = [sa.func.has_table_privilege(relation.c.oid, one).label(one) for one in EVERY]
        rows = connection.execute(
            sa.select(relation.c.relname, *granted)
            .where(relation.c.relnamespace == exists, relation.c.relkind.in_(("r", "p")))
            .order_by(relation.c.relname)
        ).mappings()
        missing = {row["relname"]: [p for p in EVERY if not row[p]] for row in rows}
    return [f"{', '.join(p)} ON {name}.{table}" for table, p in missing.items() if p]
