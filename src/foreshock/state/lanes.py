"""Eight numbers at a time, for kernels over rows of a multiple of eight numbers.

Inside a kernel such eight are one value: `load` and `store` move them, + − × ÷ go lane by lane, each rounded on its
own, so that results are those of a loop over single numbers. A loop that the compiler makes vectors of by itself keeps
what it works out in memory between passes, checks again and again that arrays lie apart, and takes the last few numbers
one by one.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core.cgutils import get_or_insert_function
from numba.core.errors import TypingError
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

LANES = 8

_infer: Any = infer_global
_lowers: Any = lower_builtin
_model: Any = register_model
_signature: Any = signature
_function: Any = get_or_insert_function


class Lanes(types.Type):
    """The type of eight numbers of 32 or 64 bits in a kernel."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        super().__init__(name=f"Lanes({bits})")

    @property
    def vector(self) -> Any:
        """As the compiler knows it."""
        return ir.VectorType(self.element, LANES)

    @property
    def element(self) -> Any:
        """One number of it, as the compiler knows it."""
        return ir.FloatType() if self.bits == 32 else ir.DoubleType()


FLOATS, DOUBLES = Lanes(32), Lanes(64)


@_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Lanes) -> None:
        super().__init__(manager, kind, kind.vector)  # type: ignore[no-untyped-call]


def _operator(operation: Callable[..., Any], instruction: str) -> None:
    @_infer(operation)
    class _Typing(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) == 2 and isinstance(args[0], Lanes) and args[0] == args[1]:
                return _signature(args[0], *args)
            return None

    def lower(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return getattr(builder, instruction)(*arguments)

    _lowers(operation, Lanes, Lanes)(lower)


for _operation, _instruction in (
    (operator.add, "fadd"), (operator.sub, "fsub"), (operator.mul, "fmul"), (operator.truediv, "fdiv"),
):  # fmt: skip
    _operator(_operation, _instruction)


def _of_array(array: Any) -> Lanes:
    if not isinstance(array, types.Array) or array.ndim != 1 or array.layout != "C":
        raise TypingError(f"lanes are of contiguous arrays of one dimension, not of {array}")
    if array.dtype not in (types.float32, types.float64):
        raise TypingError(f"lanes are of float32 or float64, not of {array.dtype}")
    return FLOATS if array.dtype == types.float32 else DOUBLES


def _place(context: Any, builder: Any, kind: Any, array: Any, at: Any) -> Any:
    return builder.gep(context.make_array(kind)(context, builder, array).data, [at])


def _spread(builder: Any, value: Any) -> Any:
    vector = ir.VectorType(value.type, LANES)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.IntType(32)(0))
    return builder.shuffle_vector(
        one, ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    )


def _load_code(typing_context: Any, array: Any, at: Any) -> Any:
    """The eight numbers of an array from place `at` on; the caller sees to it that they are there."""
    kind = _of_array(array)

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        place = _place(context, builder, sig.args[0], *arguments)
        return builder.load(builder.bitcast(place, kind.vector.as_pointer()), align=kind.bits // 8)

    return kind(array, types.intp), generate


def _store_code(typing_context: Any, array: Any, at: Any, value: Any) -> Any:
    """Put eight numbers into an array from place `at` on."""
    kind = _of_array(array)

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        place = _place(context, builder, sig.args[0], *arguments[:2])
        builder.store(arguments[2], builder.bitcast(place, kind.vector.as_pointer()), align=kind.bits // 8)
        return context.get_dummy_value()

    return types.void(array, types.intp, kind), generate


def _splat_code(typing_context: Any, array: Any, at: Any) -> Any:
    """Eight times the number of an array at place `at`."""
    kind = _of_array(array)

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        place = _place(context, builder, sig.args[0], *arguments)
        return _spread(builder, builder.load(place, align=kind.bits // 8))

    return kind(array, types.intp), generate


def _spread_code(typing_context: Any, value: Any) -> Any:
    """Eight times a float32 or a float64."""
    if value not in (types.float32, types.float64):
        raise TypingError(f"lanes are of float32 or float64, not of {value}")

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return _spread(builder, arguments[0])

    return (FLOATS if value == types.float32 else DOUBLES)(value), generate


def _above_code(typing_context: Any, a: Any, b: Any, yes: Any, no: Any) -> Any:
    """`yes` in the lanes where a > b, and `no` in the others, those with a NaN among them."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        first, second, then, otherwise = arguments
        return builder.select(builder.fcmp_ordered(">", first, second), then, otherwise)

    return yes(a, a, yes, yes), generate


def _unary(name: str) -> Any:
    def code(typing_context: Any, x: Any) -> Any:
        def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
            kind = ir.FunctionType(x.vector, [x.vector])
            function = _function(builder.module, kind, f"llvm.{name}.v{LANES}f{x.bits}")
            return builder.call(function, arguments)

        return x(x), generate

    return code


def _wide_code(typing_context: Any, x: Any) -> Any:
    """Eight float32 as float64."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return builder.fpext(arguments[0], DOUBLES.vector)

    return DOUBLES(FLOATS), generate


def _narrow_code(typing_context: Any, x: Any) -> Any:
    """Eight float64 as float32, rounded."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        return builder.fptrunc(arguments[0], FLOATS.vector)

    return FLOATS(DOUBLES), generate


def _power_of_two_code(typing_context: Any, x: Any) -> Any:
    """1 in the lanes of float32 that are a power of two, and 0 in the others."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        whole = ir.VectorType(ir.IntType(32), LANES)
        fraction = builder.and_(builder.bitcast(arguments[0], whole), ir.Constant(whole, [0x7FFFFF] * LANES))
        none = builder.icmp_unsigned("==", fraction, ir.Constant(whole, [0] * LANES))
        return builder.uitofp(none, FLOATS.vector)

    return FLOATS(FLOATS), generate


def _any_above_code(typing_context: Any, a: Any, b: Any) -> Any:
    """Whether a > b in any lane."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        bits = builder.bitcast(builder.fcmp_ordered(">", *arguments), ir.IntType(LANES))
        return builder.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))

    return types.boolean(a, a), generate


def _swap_code(typing_context: Any, x: Any, distance: Any) -> Any:
    """The lanes with those 4, 2 or 1 away, written as that number, in pairs that change places."""
    if not isinstance(distance, types.IntegerLiteral):
        raise TypingError(f"lanes are swapped over a distance that is written out, not over {distance}")
    order = [k ^ distance.literal_value for k in range(LANES)]

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        where = ir.Constant(ir.VectorType(ir.IntType(32), LANES), order)
        return builder.shuffle_vector(arguments[0], ir.Constant(x.vector, ir.Undefined), where)

    return x(x, distance), generate


def _total_code(typing_context: Any, x: Any) -> Any:
    """The sum of eight float32, in pairs, as a float64."""

    def generate(context: Any, builder: Any, sig: Any, arguments: Any) -> Any:
        parts = [builder.extract_element(arguments[0], ir.IntType(32)(k)) for k in range(LANES)]
        while len(parts) > 1:
            parts = [builder.fadd(parts[k], parts[k + 1]) for k in range(0, len(parts), 2)]
        return builder.fpext(parts[0], ir.DoubleType())

    return types.float64(FLOATS), generate


load: Any = intrinsic(_load_code)
store: Any = intrinsic(_store_code)
splat: Any = intrinsic(_splat_code)
spread: Any = intrinsic(_spread_code)
above: Any = intrinsic(_above_code)
root: Any = intrinsic(_unary("sqrt"))
size: Any = intrinsic(_unary("fabs"))
wide: Any = intrinsic(_wide_code)
narrow: Any = intrinsic(_narrow_code)
power_of_two: Any = intrinsic(_power_of_two_code)
any_above: Any = intrinsic(_any_above_code)
swap: Any = intrinsic(prefer_literal=True)(_swap_code)
total: Any = intrinsic(_total_code)
