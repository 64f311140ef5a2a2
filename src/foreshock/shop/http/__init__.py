"""The shop as real HTTP services: a process each, on loopback, that call one another, break and recover."""
