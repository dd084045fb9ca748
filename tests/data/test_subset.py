"""Which images are chosen: sets made by hand, so that the right choice is known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from picoquant.data.dataset import Dataset, Record
from picoquant.data.subset import choose, listed
from picoquant.errors import DataError


def dataset(*classes, crowds=()):
    """An image for each list of classes: `0.png`, `1.png`, … in the folder `/data/a`."""
    records = tuple(
        Record(
            image_id=number,
            path=f"/data/a/{number}.png",
            width=8,
            height=8,
            boxes=np.zeros((len(found), 4), np.float32),
            classes=np.array(found, np.int32),
            is_crowd=np.full(len(found), number in crowds),
        )
        for number, found in enumerate(classes)
    )
    return Dataset(records, ("a", "b", "c"), (1, 2, 3))


def ids(chosen):
    return [record.image_id for record in chosen.records]


MANY = dataset(*[[0]] * 100)


def test_the_first_and_all():
    assert ids(choose(MANY, 3, "first", 0)) == [0, 1, 2]
    assert choose(MANY, None, "random", 0) is MANY


def test_random_ones_are_the_same_for_one_seed_only():
    found = ids(choose(MANY, 10, "random", 5))
    assert found == ids(choose(MANY, 10, "random", 5)) == sorted(set(found)) and len(found) == 10
    assert found != ids(choose(MANY, 10, "random", 6)) and found != list(range(10))


def test_balanced_takes_every_image_of_a_rare_class():
    # Ninety images show class 0 only; of the others three show 1, and one shows 2.
    classes = [[0, 0]] * 90 + [[1]] * 3 + [[2]] + [[]] * 6
    for seed in range(5):
        found = ids(choose(dataset(*classes), 8, "balanced", seed))
        assert {90, 91, 92, 93} <= set(found) and sum(number < 90 for number in found) == 4
    # Twice as many objects on an image of class 0: half as many images.
    found = ids(choose(dataset(*[[0, 0]] * 50, *[[1]] * 50), 9, "balanced", 0))
    assert sum(number < 50 for number in found) == 3


def test_balanced_counts_no_crowds_and_ends_with_images_without_objects():
    found = choose(dataset([2], [0], [], [1], crowds=(0,)), 3, "balanced", 0)
    assert {1, 3} <= set(ids(found))
    assert ids(choose(dataset([2], [0], [], [1]), 4, "balanced", 0)) == [0, 1, 2, 3]


@pytest.mark.parametrize("how", ["first", "random", "balanced"])
def test_more_than_there_are(how):
    with pytest.raises(DataError, match="Calibration.count is 101, but TrainDataset has 100 usable images"):
        choose(MANY, 101, how, 0)


def test_a_list_of_names(tmp_path):
    file = tmp_path / "list.txt"
    file.write_text("# chosen by hand\n\n7.png\n  a/3.png \n7.png\n")
    assert ids(listed(MANY, file)) == [3, 7]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("3.png\nb/4.png\n", r"list.txt, line 2: b/4.png is no image of TrainDataset"),
        ("33.pgn\n", r"line 1: 33.pgn is no image of TrainDataset \(did you mean 33.png\?\)"),
        ("# nothing\n", "names no image"),
    ],
)
def test_a_list_that_cannot_be_followed(tmp_path, content, message):
    file = tmp_path / "list.txt"
    file.write_text(content)
    with pytest.raises(DataError, match=message):
        listed(MANY, file)


def test_a_list_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="Calibration.files: .*nowhere.txt cannot be read"):
        listed(MANY, tmp_path / "nowhere.txt")


def test_images_that_are_evaluated_on_are_warned_of(caplog):
    from picoquant.stages.datasets import warn_of_overlap

    held_out = choose(MANY, 40, "first", 0)
    warn_of_overlap(choose(MANY, 3, "first", 0), held_out)
    assert "3 of the 3 images of Calibration are evaluated on too (0.png" in caplog.text
    caplog.clear()
    warn_of_overlap(replace(MANY, records=MANY.records[40:]), held_out)
    assert not caplog.text


def test_the_real_path_of_a_link_to_an_image_or_to_its_folder(tmp_path):
    import os

    from picoquant.stages.datasets import _real_paths

    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").write_bytes(b"")
    (tmp_path / "b").symlink_to("a")
    (tmp_path / "2.png").symlink_to("b/1.png")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    names = ("a/1.png", "b/1.png", "2.png", "gone.png", "none.png", "a/../b/1.png", "./b/../2.png")
    paths = [os.path.join(tmp_path, name) for name in names] + ["x/y.png", "y.png"]
    assert list(_real_paths(paths)) == list(map(os.path.realpath, paths))
    assert len(set(_real_paths(paths[:3]))) == 1


def one_after_the_other(dataset, order, count):
    """What balanced choice is, by looking through all images that are left each time."""
    objects = np.array(
        [np.bincount(record.classes[~record.is_crowd], minlength=3) for record in dataset.records]
    )
    left, chosen, so_far = list(order), [], np.zeros(3, int)
    while len(chosen) < count:
        there = objects[left].sum(axis=0) > 0
        index = left[0]
        if there.any():
            rarest = int(np.argmin(np.where(there, so_far, 10**9)))
            index = next(index for index in left if objects[index, rarest])
        left.remove(index)
        chosen.append(index)
        so_far += objects[index]
    return chosen


def test_balanced_by_queues_is_balanced_by_looking_at_all():
    from picoquant.data.subset import _balanced

    random = np.random.default_rng(0)
    for crowds in ((), (3, 5)):
        images = dataset(
            *[random.integers(0, 3, random.integers(0, 4)).tolist() for _ in range(40)], crowds=crowds
        )
        order = random.permutation(40).tolist()
        for count in (1, 7, 40):
            assert _balanced(images, order, count) == one_after_the_other(images, order, count)
