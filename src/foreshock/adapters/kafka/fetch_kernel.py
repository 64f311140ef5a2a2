"""Messages of librdkafka, by their pointers → columns. Its functions are called by name: see `link`."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.extending import intrinsic

from foreshock.adapters.kafka.librdkafka import CMessage, address_of
from foreshock.state.jit import entry

_timestamp: Any = types.ExternalFunction("rd_kafka_message_timestamp", types.int64(types.uint64, types.uint64))
_headers: Any = types.ExternalFunction("rd_kafka_message_headers", types.int32(types.uint64, types.uint64))
_destroy: Any = types.ExternalFunction("rd_kafka_message_destroy", types.void(types.uint64))
_ERROR, _TOPIC, _PARTITION, _VALUE, _SIZE, _KEY, _KEY_SIZE, _OFFSET = (
    np.uint64(getattr(CMessage, name).offset)
    for name in ("err", "topic", "partition", "payload", "size", "key", "key_size", "offset")
)
ODD, PLAIN = 1, 0
"""A message with headers, or without a value, or an error in its place; any other."""
_LINE = np.uint8(10)
_AHEAD = 12
"""Messages come from all over the memory: so many ahead they are asked for."""


@cache
def link() -> None:
    """Tell the compiler where the functions are; to be called before any kernel of this file."""
    binding: Any = import_module("llvmlite.binding")
    for one in (_timestamp, _headers, _destroy):
        binding.add_symbol(one.symbol, address_of(one.symbol))


def _read_code(bits: int, kind: Any) -> Any:
    def typed(context: Any, address: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return builder.load(builder.inttoptr(args[0], ir.IntType(bits).as_pointer()))

        return kind(types.uint64), code

    return intrinsic(typed)


_int_at, _long_at = _read_code(32, types.int32), _read_code(64, types.int64)
_address_at: Any = _read_code(64, types.uint64)


def _expect_code(context: Any, address: Any) -> Any:
    """Ask the processor for what is at an address, without waiting."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        builder.call(function, [builder.inttoptr(args[0], byte), word(0), word(3), word(1)])
        return context.get_dummy_value()

    return types.void(types.uint64), code


_expect: Any = intrinsic(_expect_code)


def _copy_code(context: Any, into: Any, at: Any, source: Any, size: Any) -> Any:
    """Copy `size` bytes at an address into an array of bytes."""

    def code(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, args[0])
        byte = ir.IntType(8).as_pointer()
        place = builder.gep(builder.bitcast(array.data, byte), [args[1]])
        kinds = [byte, byte, ir.IntType(64)]
        copy = builder.module.declare_intrinsic("llvm.memcpy", kinds)
        builder.call(copy, [place, builder.inttoptr(args[2], byte), args[3], ir.Constant(ir.IntType(1), 0)])
        return context.get_dummy_value()

    return types.void(into, types.int64, types.uint64, types.int64), code


_copy: Any = intrinsic(_copy_code)


@entry
def look(
    pointers: Any, scratch: Any, error: Any, topic: Any, partition: Any, offset: Any, stamp: Any, size: Any,
    key_size: Any, kind: Any,
) -> None:  # fmt: skip
    """What messages are: all `[n]`; `pointers uint64`, `scratch` the address of eight bytes.

    `error`, `partition int32`; `topic uint64` its handle; `offset`, `stamp` (ms), `size`, `key_size int64` (-1 = none);
    `kind uint8`.
    """
    for i in range(len(pointers)):
        _expect(pointers[min(i + _AHEAD, len(pointers) - 1)])
        one = pointers[i]
        error[i] = _int_at(one + _ERROR)
        topic[i] = _address_at(one + _TOPIC)
        partition[i] = _int_at(one + _PARTITION)
        offset[i] = _long_at(one + _OFFSET)
        null = _address_at(one + _VALUE) == 0
        size[i] = -1 if error[i] != 0 or null else _long_at(one + _SIZE)
        key_size[i] = -1 if _address_at(one + _KEY) == 0 else _long_at(one + _KEY_SIZE)
        stamp[i] = _timestamp(one, scratch)
        kind[i] = PLAIN if error[i] == 0 and not null and _headers(one, scratch) != 0 else ODD


@entry
def copy(pointers: Any, order: Any, size: Any, key_size: Any, value: Any, key: Any) -> None:
    """Copy what messages hold, in an order, into bytes, a line feed behind each value that there is."""
    at, key_at = 0, 0
    for k in range(len(order)):
        i = order[k]
        one = pointers[i]
        if size[i] >= 0:
            _copy(value, at, _address_at(one + _VALUE), size[i])
            at += size[i]
            value[at] = _LINE
            at += 1
        if key_size[i] > 0:
            _copy(key, key_at, _address_at(one + _KEY), key_size[i])
            key_at += key_size[i]


@entry
def destroy(pointers: Any) -> None:
    """Let go of messages."""
    for one in pointers:
        _destroy(one)
