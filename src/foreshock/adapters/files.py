"""Recorded files as a live source: as fast as they are taken, or at the pace of the clock."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Annotated, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator

from foreshock.adapters.file_streams import Retime
from foreshock.adapters.files_reader import TableReader
from foreshock.adapters.mapping import MappingOptions
from foreshock.errors import BadInputError, RetryableError
from foreshock.ports import Clock, Submit
from foreshock.telemetry import drop
from foreshock.types import Record
from foreshock.types.record import WATERMARK
from foreshock.types.units import Options

_LONGEST_SLEEP = 0.5
_RETRY_SECONDS = 0.2

Listed = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda value: (value,) if isinstance(value, str) else value,
                    json_schema_input_type=str | list[str]),
]  # fmt: skip


class FilesOptions(Options):
    """Recorded tables: CSV, Parquet or NDJSON, plain or compressed."""

    paths: Listed = Field(default=(), description="Files, globs, or folders (with all below).")
    pace: Literal["fast", "clock"] = Field(
        default="fast", description="fast: as it goes; clock: a second of the data takes a second."
    )
    speed: float = Field(default=1.0, gt=0, description="With pace clock: how much faster than the clock.")
    shift: bool = Field(default=False, description="With pace clock: times are moved as if the data came in now.")
    entity: Literal["column", "file"] = Field(
        default="column", description="What names the entity: a column where there is one, or always the file."
    )
    chunk_rows: int = Field(default=4096, ge=1, le=1_000_000, description="Rows read from a file at a time.")

    @model_validator(mode="after")
    def _fits_together(self) -> FilesOptions:
        if self.pace == "fast" and (self.shift or self.speed != 1.0):
            raise ValueError("speed and shift belong to pace: clock")
        return self


class FilesSource:
    """Plays files into the runtime, waiting where it has no room: a file is not lost by waiting.

    Raises ConfigError or BadInputError at once where the files cannot be read. It starts from the beginning each time
    it is run. Its records carry its own name as their source.
    """

    options: ClassVar = FilesOptions

    def __init__(
        self,
        name: str = "files",
        options: FilesOptions | None = None,
        environment: str = "default",
        lateness_seconds: float = 0.0,
        mapping: MappingOptions | None = None,
    ) -> None:
        self.name, self.lateness_seconds = name, lateness_seconds
        self._options = options or FilesOptions()
        self.reader = TableReader(
            self._options.paths, mapping, chunk_rows=self._options.chunk_rows, entity=self._options.entity,
            environment=environment, name=name, source=name,
        )  # fmt: skip
        self._stopped = threading.Event()

    def run(self, submit: Submit, clock: Clock) -> None:
        """Play to the end or until `stop`."""
        start, first, speed = clock.now_unix_nano(), self.reader.start_unix_nano or 0, self._options.speed
        paced = self._options.pace == "clock"
        retime = _moved(start, first, speed) if self._options.shift else None
        # At the pace of the clock, rows are handed over once a second, at the end of the second they fell into.
        slice_nano = max(1, round(speed * 1e9)) if paced else 0
        for _, record in self.reader.records(0, slice_nano, retime):
            if self._stopped.is_set():
                return
            # A watermark speaks for all sources of a task; how far time has come is for the runtime to say.
            if record.content_type == WATERMARK:
                continue
            if paced:
                self._wait(clock, start + round((record.received_unix_nano - first) / speed))
            self._bring(submit, clock, record)

    def stop(self) -> None:
        """End `run` within half a second."""
        self._stopped.set()

    def _wait(self, clock: Clock, until: int) -> None:
        while not self._stopped.is_set() and (left := until - clock.now_unix_nano()) > 0:
            clock.sleep(min(left / 1e9, _LONGEST_SLEEP))

    def _bring(self, submit: Submit, clock: Clock, record: Record) -> None:
        while not self._stopped.is_set():
            try:
                submit(replace(record, received_unix_nano=clock.now_unix_nano()))
            except RetryableError:
                clock.sleep(_RETRY_SECONDS)
            except BadInputError as error:
                drop(self.name, error.reason)
                return
            else:
                return


def _moved(start: int, first: int, speed: float) -> Retime:
    """Times as if the data came in from `start` on; steps shrink with the speed."""

    def retime(times: NDArray[np.int64]) -> NDArray[np.int64]:
        offset = times - first
        return start + (offset if speed == 1.0 else np.rint(offset / speed).astype(np.int64))

    return retime
