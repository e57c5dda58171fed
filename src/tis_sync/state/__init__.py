"""Our own database: its tables, and how they come up to date."""
