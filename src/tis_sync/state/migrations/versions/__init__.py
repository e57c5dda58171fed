"""Alembic's migrations of our own tables, in order."""
