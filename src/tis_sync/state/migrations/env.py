"""Alembic's entry point: migrate over the connection from `tis_sync.state.database`."""

from alembic import context

from tis_sync.state.database import VERSION_TABLE

connection = context.config.attributes["connection"]
context.configure(connection=connection, version_table=VERSION_TABLE)
with context.begin_transaction():
    context.run_migrations()
