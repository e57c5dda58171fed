"""RabbitMQ: records and commands in, events out; nothing acknowledged before it is stored."""
