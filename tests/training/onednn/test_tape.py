"""Places in memory: never two tensors in one at the same time, and no more of it than the fullest moment needs."""

from __future__ import annotations

import random

import numpy as np
import pytest

from picoquant.training.onednn.library import Kind, library
from picoquant.training.onednn.tape import Arena, Buffer, Tape, _offsets


@pytest.mark.parametrize("seed", range(8))
def test_buffers_in_use_at_the_same_time_do_not_overlap(seed):
    draw = random.Random(seed)
    buffers = []
    for _ in range(60):
        first = draw.randrange(40)
        buffers.append(Buffer(draw.choice((1, 63, 64, 65, 1000, 4096)), first, first + draw.randrange(12)))
    buffers.append(Buffer(100))  # never used
    found = _offsets(buffers)
    assert set(found) == set(buffers[:-1])
    assert all(offset % 64 == 0 for offset in found.values())
    for one, begin in found.items():
        for other, start in found.items():
            if one is not other and one.first <= other.last and other.first <= one.last:
                assert begin + one.bytes <= start or start + other.bytes <= begin
    end = max(offset + buffer.bytes for buffer, offset in found.items())
    fullest = max(
        sum(-(-one.bytes // 64) * 64 for one in found if one.first <= now <= one.last) for now in range(52)
    )
    assert end <= 1.5 * fullest


def test_one_after_another_they_share_a_place():
    chain = [Buffer(640, place, place + 1) for place in range(10)]
    assert sorted(set(_offsets(chain).values())) == [0, 640]


def test_an_arena_is_aligned_and_grows():
    arena = Arena()
    first = arena.at_least(1000)
    assert first % 64 == 0
    assert arena.at_least(500) == first
    assert arena.at_least(100_000) % 64 == 0
    assert arena._memory.nbytes >= 100_000 and arena._memory.dtype == np.uint8


@pytest.mark.skipif(library() is None, reason="no oneDNN of version 3 here")
def test_a_call_between_primitives_reads_and_changes_tensors():
    """What it reads has no other's place until then."""
    tape = Tape(library())
    layout = tape.layout((4,), Kind.F32, [1])
    given, result = np.arange(4, dtype=np.float32), np.zeros(4, np.float32)
    outside, target = (tape.outside(layout, one.ctypes.data) for one in (given, result))
    first, second = tape.new(layout), tape.new(layout)
    tape.reorder(outside, first)
    tape.reorder(outside, second)

    def double(values):
        values *= 2

    tape.add_call(double, [first])
    tape.reorder(first, target)
    third = tape.new(layout)
    tape.reorder(outside, third)
    seen = []
    tape.add_call(lambda *values: seen.extend(one.tolist() for one in values), [first, second, third])
    tape.end_of_forward()
    tape.plan()
    arena = Arena()
    tape.forward_pass(arena.at_least(tape.bytes))
    assert result.tolist() == [0, 2, 4, 6]
    assert seen == [[0, 2, 4, 6], [0, 1, 2, 3], [0, 1, 2, 3]]
