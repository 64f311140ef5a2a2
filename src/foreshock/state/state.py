"""State of an operator or detector, and its bytes: a header of plain data, then raw arrays. Nothing is pickled."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from foreshock.errors import PermanentError
from foreshock.state.slots import SlotTable

CHUNK_BYTES = 1 << 20


@dataclass(slots=True)
class State:
    """All that a part must remember, with the version of its format.

    `meta` plain data; `arrays` small arrays, already copied; `tables` live slot tables, to be copied block by block;
    `blobs` lists of sealed byte chunks. After `frozen()` or `unpack`, tables stand among `arrays` under their name;
    those of `unpack` may only be read: whoever takes them over copies them, as `SlotTable.load` does.
    """

    version: int
    meta: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    tables: dict[str, SlotTable] = field(default_factory=dict)
    blobs: dict[str, list[bytes]] = field(default_factory=dict)

    def frozen(self) -> State:
        """The same state with all tables copied, at once."""
        arrays = self.arrays | {name: table.copy() for name, table in self.tables.items()}
        return State(self.version, self.meta, arrays, {}, self.blobs)


def pack(state: State) -> bytes:
    """Bytes of a state; tables are copied first."""
    return b"".join(chunks(state.frozen() if state.tables else state))


def chunks(state: State) -> Iterator[bytes | memoryview]:
    """The bytes of `pack` for a frozen state, in pieces of 1 MiB at most and without a copy.

    A large state can so be written and summed piece by piece, without holding the GIL for all of it.
    """
    arrays = {name: np.ascontiguousarray(state.arrays[name]) for name in sorted(state.arrays)}
    blobs = sorted(state.blobs.items())
    header = msgspec.msgpack.encode(
        {
            "version": state.version,
            "meta": state.meta,
            "arrays": [
                {
                    "name": name,
                    "dtype": np.lib.format.dtype_to_descr(array.dtype),
                    "shape": list(state.arrays[name].shape),
                }
                for name, array in arrays.items()
            ],
            "blobs": {name: [len(chunk) for chunk in chunks] for name, chunks in blobs},
        }
    )
    yield len(header).to_bytes(8, "little") + header
    for array in arrays.values():
        view = array.reshape(-1).view(np.uint8).data if array.size else memoryview(b"")
        for at in range(0, len(view), CHUNK_BYTES):
            yield view[at : at + CHUNK_BYTES]
    for _, parts in blobs:
        yield from parts


def unpack(data: bytes) -> State:
    """The state that `pack` wrote; its arrays are views of `data`, to be read only and not aligned.

    Raises PermanentError if the bytes are not such a state.
    """
    try:
        size = int.from_bytes(data[:8], "little")
        header = msgspec.msgpack.decode(data[8 : 8 + size])
        at = 8 + size
        arrays: dict[str, NDArray[Any]] = {}
        for entry in header["arrays"]:
            dtype = _dtype(entry["dtype"])
            count = int(np.prod(entry["shape"], dtype=np.int64))
            arrays[entry["name"]] = np.frombuffer(data, dtype, count, at).reshape(entry["shape"])
            at += count * dtype.itemsize
        blobs: dict[str, list[bytes]] = {}
        for name, sizes in header["blobs"].items():
            blobs[name] = []
            for length in sizes:
                blobs[name].append(data[at : at + length])
                at += length
        if at != len(data):
            raise ValueError(f"{len(data) - at} bytes left over")
        return State(header["version"], header["meta"], arrays, {}, blobs)
    except (ValueError, KeyError, TypeError, msgspec.MsgspecError) as error:
        raise PermanentError(f"state cannot be read: {error}") from error


def _dtype(descr: Any) -> np.dtype[Any]:
    return np.lib.format.descr_to_dtype(_tuples(descr))


def _tuples(descr: Any) -> Any:
    if isinstance(descr, str):
        return descr
    out = []
    for name, kind, *shape in descr:
        out.append((name, _tuples(kind), *(tuple(part) for part in shape)))
    return out
