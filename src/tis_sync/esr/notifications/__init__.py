"""Notifications: load them into TCS, and select those that a file has to contain."""
