"""What runs inside somebody's application: it records calls and sends them to Foreshock, and is never in the way.

Nothing here imports anything but the standard library, and the library that a module is called after.
"""

from foreshock.instrument.recorder import Recorder, Stats

__all__ = ["Recorder", "Stats"]
