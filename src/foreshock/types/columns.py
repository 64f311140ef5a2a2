"""What operators pass to one another."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from foreshock.types.alert import Alert
from foreshock.types.batch import Samples
from foreshock.types.calls import Calls
from foreshock.types.control import Control
from foreshock.types.frame import Rows
from foreshock.types.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Intake:
    """One decoded record: its samples or calls, the source that brought them and when they were received."""

    source: str
    received_unix_nano: int
    samples: Samples
    calls: Calls | None = None


@dataclass(frozen=True, slots=True)
class Presence:
    """An entity had its first scored row of a UTC day (`day` = days since the epoch)."""

    entity: str
    day: int
    decided_unix_nano: int


@dataclass(slots=True)
class Columns:
    """The columns of one step through the operators; each operator fills in what it adds.

    `intakes` and `controls` go in; `rows` come from alignment, `verdicts` from detectors and bars (one a detector,
    over the cells or rows of `rows`), `alerts`, `presence` and `alarmed` (for each row, whether its entity alarms)
    from the alarm.
    """

    intakes: tuple[Intake, ...] = ()
    controls: tuple[Control, ...] = ()
    rows: Rows = field(default_factory=Rows.empty)
    verdicts: tuple[Verdict, ...] = ()
    alerts: tuple[Alert, ...] = ()
    presence: tuple[Presence, ...] = ()
    alarmed: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
