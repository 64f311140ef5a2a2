"""Prometheus as a source: what is worth watching is found, its past read, then every step as it comes."""
