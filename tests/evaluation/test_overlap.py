"""Decoding while the next images are computed changes nothing but the time."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from picoquant.data.formats.coco import load_coco
from picoquant.data.readers.reader import EvalReader
from picoquant.data.settings import DatasetSettings, ReaderSettings
from picoquant.errors import WeightsError
from picoquant.evaluation import evaluate
from picoquant.postprocess import Decoder, NmsSettings
from tests.evaluation.test_evaluate import transforms


class Made:
    """Boxes and scores made up of an image's values."""

    input_names = ("image",)

    def __init__(self, in_any_thread, broken=None):
        self.in_any_thread, self.threads, self.broken = in_any_thread, set(), broken
        self.calls = 0

    def __call__(self, feed):
        self.threads.add(threading.get_ident())
        self.calls += 1
        values = feed["image"].reshape(len(feed["image"]), 3, 64 * 64)
        scores = values[:, :, :100].astype("float32")
        if self.calls == self.broken:
            scores[0, 0, 0] = np.nan
        corners = 64 * values[:, :2, 100:200].transpose(0, 2, 1)
        return [np.concatenate([corners, corners + 20], axis=-1).astype("float32"), scores]


@pytest.fixture(scope="module")
def images(shared):
    settings = DatasetSettings(
        dataset_dir=str(shared / "datasets" / "bccd"),
        image_dir="JPEGImages",
        anno_path="instances_val.json",
        section="EvalDataset",
        sample_num=11,
    )
    dataset = load_coco(settings, training=False)
    return dataset, EvalReader(dataset, ReaderSettings(transforms((64, 64)), batch_size=2), 2)


def test_the_same_detections_in_the_same_order(images):
    dataset, reader = images
    decoder = Decoder("boxes", NmsSettings())
    one, other = Made(False), Made(True)
    plain, overlapped = (evaluate(made, decoder, dataset, reader) for made in (one, other))
    assert one.threads == {threading.get_ident()} and threading.get_ident() not in other.threads
    assert len(other.threads) == 1 and one.calls == other.calls == 6
    assert plain.detections and plain.detections == overlapped.detections
    assert plain.metrics == overlapped.metrics and overlapped.images == 11


def test_what_is_not_finite_is_still_found(images):
    dataset, reader = images
    with pytest.raises(WeightsError, match="no finite numbers"):
        evaluate(Made(True, broken=4), Decoder("boxes", NmsSettings()), dataset, reader)
