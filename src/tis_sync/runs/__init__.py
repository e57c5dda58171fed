"""When and where jobs run: workflows and queues, schedules, the night, history, recovery."""
