"""The alarm: verdicts of an entity's rows → episodes that open at once and close by hysteresis.

A metric's strength less its price must pass a level that allows for the number of metrics, and more where no other
witness confirms it. The construction and all its constants were measured (CONTRACTS §9). Objects are made only where
an episode opens, grows or closes: `story` puts into words what `alarm_kernel` finds.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from foreshock.incident import alarm_kernel as kernel
from foreshock.incident import alarm_prices as prices
from foreshock.incident.alarm_inputs import inputs_of
from foreshock.incident.budget import BudgetOptions
from foreshock.incident.story import Step, Teller, watchdog
from foreshock.state import Registry, SlotTable, State
from foreshock.types import Alert, Columns, Presence, Verdict, label_text
from foreshock.types.units import Options

EVENTS = 256
"""Events that the kernel may gather before they are put into words."""


class AlarmOptions(Options):
    """When an alert of an entity opens and closes."""

    close_after: int = Field(
        default=5,
        ge=1,
        le=255,
        description="Evaluations in a row below 0.7 of the level it opened at that close an episode.",
    )
    critical_ratio: float = Field(
        default=3.0, gt=1, description="An alert that opens this many times over its level is critical, else a warning."
    )
    silence: bool = Field(default=True, description="Whether an entity that stops sending raises an alert.")


class Alarm:
    """Operator: rows and verdicts → alerts, presence and which rows alarm.

    `thresholds` names detectors that compare with a limit which a user wrote: they alert a feature at a time, outside
    of budgets. `primary` names those whose strengths count for the entity's alarm (default: all others).
    """

    name = "alarm"

    def __init__(
        self,
        registry: Registry,
        options: AlarmOptions,
        budget: BudgetOptions,
        *,
        thresholds: frozenset[str] = frozenset(),
        primary: frozenset[str] | None = None,
    ) -> None:
        self.registry = registry
        self.thresholds, self.primary = thresholds, primary
        self._rule = kernel.Rule(budget.entity, options.close_after)
        self._entity = SlotTable(kernel.ENTITY, kernel.ENTITY_START)
        self._price = SlotTable(prices.PRICE)
        self._limit = SlotTable(kernel.LIMIT)
        self._teller = Teller(registry, options.critical_ratio, options.silence)

    def process(self, columns: Columns) -> Columns:
        """Judge rows in order; adds `alerts`, `presence` and `alarmed`.

        Raises ValueError if a verdict does not fit the rows.
        """
        if not len(columns.rows):
            return columns
        step = self._step(columns)
        inputs, tables = inputs_of(step), self._tables(step)
        out = np.zeros(max(EVENTS, 4 + int((step.rows.start[1:] - step.rows.start[:-1]).max())), kernel.EVENT)
        alarmed = np.zeros(len(step.rows), np.bool_)
        alerts: list[Alert] = []
        presence: list[Presence] = []
        row = 0
        while row < len(step.rows):
            row, count = kernel.judge(inputs, tables, self._rule, row, out, alarmed)
            for event in out[:count]:
                if event["kind"] == kernel.PRESENT:
                    presence.append(self._presence(step, int(event["row"])))
                else:
                    alerts += self._teller.tell(step, event)
        return replace(
            columns, alerts=columns.alerts + tuple(alerts), presence=columns.presence + tuple(presence), alarmed=alarmed
        )

    def on_watermark(self, time_unix_nano: int) -> Columns:
        """Nothing: rows alone decide."""
        return Columns()

    def forget(self, entity: int, series: NDArray[np.int32]) -> None:
        """Give an entity and its series a fresh start; what was open is dropped unsaid."""
        self._entity.reset(np.array([entity]))
        self._price.reset(series)
        self._limit.reset(series)
        self._teller.forget(entity, series.tolist())

    def state(self) -> State:
        """Prices, levels, histories and what has been said of open episodes."""
        tables = {"entity": self._entity, "price": self._price, "limit": self._limit}
        return State(3, {}, {}, tables, {"stories": [self._teller.encode()]})

    def load(self, state: State) -> None:
        """Take over what `state` gave."""
        self._entity.load(state.arrays["entity"])
        self._price.load(state.arrays["price"])
        self._limit.load(state.arrays["limit"])
        self._teller.decode(state.blobs["stories"][0])

    def _step(self, columns: Columns) -> Step:
        primary: list[Verdict] = []
        limits: list[Verdict] = []
        whole: list[Verdict] = []
        for verdict in columns.verdicts:
            if len(verdict.score) != len(columns.rows if verdict.whole else columns.rows.series):
                raise ValueError(f"verdict of {verdict.detector}: {len(verdict.score)} scores do not fit the rows")
            if verdict.detector in self.thresholds:
                limits.append(verdict)
            elif self.primary is None or verdict.detector in self.primary:
                (whole if verdict.whole else primary).append(verdict)
        # The level goes by how many features are judged, and only detectors of single series judge all of them.
        if primary:
            primary += [verdict.apart for verdict in whole if verdict.apart is not None]
        return Step(columns.rows, tuple(primary), tuple(limits), tuple(whole))

    def _tables(self, step: Step) -> prices.Tables:
        series = step.rows.series
        highest = int(series.max()) if len(series) else -1
        used = [(self._entity, step.rows.entity, int(step.rows.entity.max())), (self._price, series, highest)]
        if step.limits:
            used.append((self._limit, series, highest))
        for table, slots, top in used:
            if top >= 0:
                table.ensure(top)
                table.touch(slots)
        return prices.Tables(self._entity.rows, self._price.rows, self._limit.rows)

    def _presence(self, step: Step, row: int) -> Presence:
        entity = label_text(self.registry.entities[int(step.rows.entity[row])])
        day = int(step.rows.time_unix_nano[row]) // prices.DAY
        return Presence(entity, day, int(step.rows.end_unix_nano[row]))


__all__ = ["Alarm", "AlarmOptions", "watchdog"]
