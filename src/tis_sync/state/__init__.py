"""The state database: its tables and their migrations."""
