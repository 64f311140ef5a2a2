"""Kafka: topics, clients and messages. Needs the extra `foreshock[kafka]`, which is imported where it is used."""
