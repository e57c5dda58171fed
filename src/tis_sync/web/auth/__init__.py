"""Authentication: who calls the console, and with which roles."""
