"""Sums over the eight corners of a cell for eight samples at once, as vector instructions.

Written in LLVM's instructions because the compiler does not find them itself: it cannot know that what is written does
not overlap what is read, and falls back to single numbers, which takes seven times as long.
"""

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

LANES = 8  # samples that are resampled together: eight float32, one vector register of AVX2
N_CODES = 3

_FLOATS = ir.VectorType(ir.FloatType(), LANES)
_BYTES = ir.VectorType(ir.IntType(8), LANES)
_ZEROS = ir.Constant(_FLOATS, [0.0] * LANES)


@intrinsic
def weighted_sum(
    typing_context: Any, table: Any, rows: Any, weights: Any, tile: Any, column: Any, length: Any
) -> tuple[Any, Any]:
    """``tile[lane * length + column] = sum(weight * table[row * LANES + lane])``, added in the order given.

    Called as ``weighted_sum(table, rows, weights, tile, column, length)`` with flat float32 arrays, tuples of row
    numbers and of float32 weights, and integers. Nothing is checked.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        table, rows, weights, tile, column, length = arguments
        total = None
        for row, weight in _pairs(builder, rows, weights):
            values = _load(context, builder, signature.args[0], table, row, _FLOATS)
            part = builder.fmul(_repeat(builder, weight), values)
            total = part if total is None else builder.fadd(total, part)
        _store(context, builder, signature.args[3], tile, column, length, total, 0)
        return context.get_dummy_value()

    return types.void(table, rows, weights, tile, column, length), generate


@intrinsic
def majorities(
    typing_context: Any, codes: Any, rows: Any, weights: Any, tile: Any, column: Any, length: Any
) -> tuple[Any, Any]:
    """For codes 1 to N_CODES, whether the weights of the corners of that code add up to more than a half.

    ``tile[((code - 1) * LANES + lane) * length + column]`` becomes 0 or 1. Arguments as in ``weighted_sum``; ``codes``
    and ``tile`` are uint8.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        codes, rows, weights, tile, column, length = arguments
        totals = [_ZEROS] * N_CODES
        for row, weight in _pairs(builder, rows, weights):
            found = _load(context, builder, signature.args[0], codes, row, _BYTES)
            share = _repeat(builder, weight)
            for place in range(N_CODES):
                equal = builder.icmp_unsigned("==", found, ir.Constant(_BYTES, [place + 1] * LANES))
                totals[place] = builder.fadd(totals[place], builder.select(equal, share, _ZEROS))
        for place, total in enumerate(totals):
            more = builder.fcmp_ordered(">", total, ir.Constant(_FLOATS, [0.5] * LANES))
            _store(context, builder, signature.args[3], tile, column, length, builder.zext(more, _BYTES), place * LANES)
        return context.get_dummy_value()

    return types.void(codes, rows, weights, tile, column, length), generate


def _pairs(builder: Any, rows: Any, weights: Any) -> Any:
    return zip(cgutils.unpack_tuple(builder, rows), cgutils.unpack_tuple(builder, weights), strict=True)


def _repeat(builder: Any, number: Any) -> Any:
    """The same number in every lane."""
    undefined, places = ir.Constant(_FLOATS, ir.Undefined), ir.VectorType(ir.IntType(32), LANES)
    first = builder.insert_element(undefined, number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(places, [0] * LANES))


def _load(context: Any, builder: Any, array_type: Any, array: Any, row: Any, vector: Any) -> Any:
    data = make_array(array_type)(context, builder, array).data
    start = builder.gep(data, [builder.mul(row, ir.Constant(row.type, LANES))])
    return builder.load(builder.bitcast(start, vector.as_pointer()), align=1)


def _store(
    context: Any, builder: Any, array_type: Any, array: Any, column: Any, length: Any, vector: Any, first: int
) -> None:
    """Write lane ``i`` to row ``first + i`` of the tile."""
    data = make_array(array_type)(context, builder, array).data
    for lane in range(LANES):
        row = builder.mul(length, ir.Constant(length.type, first + lane))
        value = builder.extract_element(vector, ir.Constant(ir.IntType(32), lane))
        builder.store(value, builder.gep(data, [builder.add(row, column)]))
