"""Presenters: what pages and the API show, computed from the history, search and the alarms."""
