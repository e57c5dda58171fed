"""The console: pages and an API by HTTP, under /sync."""
