"""Image files with the same content."""

from __future__ import annotations

import os

import numpy as np

from picoquant.data.dataset import Dataset, Record
from picoquant.data.inspection.copies import copies, same_content

NOTHING = (np.zeros((0, 4), np.float32), np.zeros(0, np.int32), np.zeros(0, bool))


def write(folder, **contents):
    paths = []
    for name, content in contents.items():
        (folder / name).write_bytes(content)
        paths.append(str(folder / name))
    return paths


def test_same_bytes_are_found_whatever_the_name(tmp_path):
    large = bytes(range(256)) * 100
    paths = write(tmp_path, a=b"one", b=large, c=b"two", d=large, e=b"one", f=b"one")
    assert same_content(paths) == [[0, 4, 5], [1, 3]]


def test_files_that_differ_outside_their_middle_are_apart(tmp_path):
    large = b"x" * 100_000
    paths = write(tmp_path, a=large, b=b"y" + large[1:], c=large[:-1] + b"y", d=large)
    assert same_content(paths) == [[0, 3]]


def test_links_are_the_same_file_and_take_their_copies_along(tmp_path):
    (first, other) = write(tmp_path, a=b"content", b=b"content")
    os.link(first, tmp_path / "hard")
    os.symlink(first, tmp_path / "soft")
    paths = [other, str(tmp_path / "soft"), first, str(tmp_path / "hard")]
    assert same_content(paths) == [[0, 1, 2, 3]]
    assert same_content(paths[1:]) == [[0, 1, 2]]


def test_a_missing_file_is_equal_to_none(tmp_path):
    assert same_content([*write(tmp_path, a=b"1"), str(tmp_path / "gone"), str(tmp_path / "gone")]) == []
    assert same_content([]) == []


def test_copies_within_a_set_and_over_both_are_told_apart(tmp_path):
    paths = write(tmp_path, a=b"1", b=b"1", c=b"2", d=b"3", e=b"3", f=b"4")

    def some(section, chosen):
        records = tuple(Record(n, paths[n], 1, 1, *NOTHING) for n in chosen)
        return Dataset(records, ("x",), (1,), section)

    train, held_out = some("TrainDataset", [0, 1, 2, 3]), some("EvalDataset", [4, 5])
    within, over = copies({"TrainDataset": train, "EvalDataset": held_out})
    assert within == [[paths[0], paths[1]]]
    assert over == [[paths[3], paths[4]]]
