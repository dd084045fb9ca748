"""Images shared by processes: each evaluates whole batches, and all count the detections of all."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from picoquant.data.formats.load import load_dataset
from picoquant.data.subset import share
from picoquant.errors import PicoquantError
from picoquant.evaluation.evaluate import count
from picoquant.evaluation.results import Results, to_bytes
from picoquant.postprocess import Detections
from tests.data.coco_sets import write_set

IMAGES = 7


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return load_dataset(write_set(tmp_path_factory.mktemp("together"), IMAGES), False)


class Group:
    """A process among others whose contents are known."""

    def __init__(self, rank, contents):
        self.rank, self.contents, self.world = rank, contents, len(contents)

    def barrier(self):
        pass

    def gather(self, content):
        self.contents[self.rank] = content
        return self.contents


def detected(dataset, image: int) -> Detections:
    """Two boxes, of which the first is nearly the annotated one, further off from image to image."""
    boxes = np.array([[10 + image, 5, 30, 20], [0, 0, 9, 9]], "float32")
    label = dataset.category_ids.index(7)
    return Detections(np.array([label] * 2), np.array([0.9 - image / 20, 0.5], "float32"), boxes)


def found(dataset):
    return ((image, detected(dataset, image)) for image in dataset.image_ids)


def test_whole_batches_are_dealt_out_in_turns(dataset):
    parts = [share(dataset, 2, rank, 3).image_ids for rank in range(3)]
    assert parts == [[1, 2, 7], [3, 4], [5, 6]]
    assert [len(share(dataset, 4, rank, 3)) for rank in range(3)] == [4, 3, 0]


def test_all_processes_count_what_one_does(dataset):
    alone = count(dataset, found(dataset))
    assert 0 < alone.metrics["mAP"] < 1
    contents = [b""] * 3
    for _ in range(2):  # in the first round the others have told nothing yet
        results = []
        for rank in range(3):
            group = Group(rank, list(contents))
            with contextlib.suppress(EOFError):
                results.append(count(dataset, found(share(dataset, 2, rank, 3)), group=group))
            contents[rank] = group.contents[rank]
    assert len(results) == 3
    for one in results:
        assert (one.metrics, one.per_class, one.images) == (alone.metrics, alone.per_class, IMAGES)
        assert one.detections == alone.detections


def test_an_image_that_no_process_had(dataset):
    group = Group(0, [b"", to_bytes(2, Results.of([]))])
    with pytest.raises(
        PicoquantError, match="6 images were evaluated by all processes, and the data set has 7"
    ):
        count(dataset, found(share(dataset, 4, 0, 2)), group=group)
