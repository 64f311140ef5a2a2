"""Foreshock: real-time anomaly detection, root cause and guarded remediation for distributed systems."""

__version__ = "0.1.0"
