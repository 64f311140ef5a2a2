"""The kits that users of the library test their own parts with."""

from foreshock.testing.clock import FakeClock
from foreshock.testing.detector_suite import ConformanceError, check_detector, check_names

__all__ = ["ConformanceError", "FakeClock", "check_detector", "check_names"]
