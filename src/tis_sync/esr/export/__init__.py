"""The export: commands, their durable workflow, what is reported afterwards, and the monitor."""
