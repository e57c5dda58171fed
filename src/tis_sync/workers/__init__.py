"""Processes that carry out runs: their session, schedules and monitors, and who works in a home."""
