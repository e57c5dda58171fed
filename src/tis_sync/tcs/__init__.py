"""TCS, the system of record: its tables, reads, writes, and synthetic data like it."""
