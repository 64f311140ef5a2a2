"""Kafka as the engine, beside peers on the same broker: `kafka.speed`, `kafka.takeover`.

They run when named (`make bench ARGS=kafka.speed`) and need what `scripts/services.sh install` installs.
"""
