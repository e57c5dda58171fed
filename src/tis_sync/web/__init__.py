"""The console: what is seen and done by HTTP, under /sync."""
