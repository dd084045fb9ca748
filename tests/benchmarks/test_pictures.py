"""Bars of the profiles: what is drawn adds up."""

from __future__ import annotations

from benchmarks.pictures import OTHERS, bars, by_part, stacked


def test_the_smallest_of_many_parts_are_one():
    rows = {
        "one": {**{f"part {number}": float(number) for number in range(1, 11)}, "here": 50.0},
        "other": {"part 3": 40.0},
    }
    found = by_part(rows)
    assert list(found) == ["here", "part 3", *(f"part {n}" for n in (10, 9, 8, 7, 6, 5)), OTHERS]
    assert found["part 3"] == [3.0, 40.0] and found[OTHERS] == [1.0 + 2.0 + 4.0, 0.0]
    assert by_part({"one": {"a": 1.0, "b": 2.0}}) == {"b": [2.0], "a": [1.0]}


def test_pictures_are_written(tmp_path):
    stacked({"one": {"a": 1.0}, "other": {"a": 2.0, "b": 1.0}}, "ms", tmp_path / "stacked.png")
    bars({"pass": 1.5, "next": 0.5}, "seconds", tmp_path / "bars.png")
    for name in ("stacked.png", "bars.png"):
        content = (tmp_path / name).read_bytes()
        assert content.startswith(b"\x89PNG") and len(content) < 60000
