"""Alarms: the catalogue of kinds, the store, and delivery to notification channels."""
