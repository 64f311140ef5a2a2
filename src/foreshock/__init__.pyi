from foreshock.testing.replay import Measures, Replayed, replay

__all__ = ["Measures", "Replayed", "__version__", "replay"]

__version__: str
