"""What feeds Kafka: agents that read a host or a Prometheus, the shop, a generator of load; behind a buffer on disk."""
