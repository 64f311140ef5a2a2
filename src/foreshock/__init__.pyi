from foreshock.bench.labelled import Measures
from foreshock.testing.replay import Replayed, replay

__all__ = ["Measures", "Replayed", "__version__", "replay"]

__version__: str
