"""Stored numbers as Paddle 3 writes them become those that Paddle 2.6 and Paddle Lite read."""

from __future__ import annotations

import pytest
from paddle.base.proto import framework_pb2

import picoquant  # noqa: F401  zlib before paddle
from picoquant.paddle_program.graph import read_attributes
from picoquant.paddle_program.message import write_numbers_plainly


@pytest.mark.parametrize(
    ("dtype", "scalar", "field", "numbers"),
    [
        (5, {"type": 3, "r": 1.5}, "fp32_values", (1.5, 1.5)),
        (2, {"type": 2, "i": -4}, "int32_values", (-4, -4)),
        (3, {"type": 2, "i": 1 << 40}, "int64_values", (1 << 40, 1 << 40)),
        (0, {"type": 1, "b": True}, "bool_values", (1, 1)),
    ],
)
def test_numbers_get_the_attribute_of_their_type(dtype, scalar, field, numbers):
    program = framework_pb2.ProgramDesc()
    op = program.blocks.add(idx=0, parent_idx=-1).ops.add(type="assign_value")
    op.attrs.add(name="dtype", type=framework_pb2.INT, i=dtype)
    op.attrs.add(name="values", type=framework_pb2.SCALARS, scalars=[framework_pb2.Scalar(**scalar)] * 2)
    assert (
        read_attributes(op)["values"]
        == tuple(scalar.get(key) for key in ("r", "i", "b") if key in scalar) * 2
    )
    for name in ("conv2d", "assign_value"):
        program.op_version_map.pair.add(op_name=name).op_version.version = 1
    write_numbers_plainly(program)
    # With its version Paddle 3 would look for the scalars and compute with whatever memory holds.
    assert [pair.op_name for pair in program.op_version_map.pair] == ["conv2d"]
    found = read_attributes(op)
    assert "values" not in found and found[field] == numbers and found["dtype"] == dtype
    others = {"fp32_values", "int32_values", "int64_values", "bool_values"} - {field}
    assert all(found[name] == () for name in others)
    before = program.SerializeToString()
    write_numbers_plainly(program)
    assert program.SerializeToString() == before
