"""RabbitMQ: topology, consumer, outbox, dead letters, drift and alarms."""
