"""Settings of all unit tests."""

from __future__ import annotations

from hypothesis import settings

# What is compiled when it is called first takes seconds, and so does anything on a busy machine: no test is timed.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
