"""TCS, the system of record: its tables, the check of its schema, and reads of whole columns."""
