"""Models in ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.backends.onnx.export import exact_onnx, write_onnx_form
from picoquant.backends.onnx.files import write_onnx
from picoquant.backends.onnx.runtime import OnnxPredictor
from picoquant.backends.source import Source
from tests.networks.small_int8 import write_small


@pytest.mark.parametrize("quantised", [True, False])
def test_images_at_the_same_time_give_what_one_after_the_other_gives(tmp_path, quantised):
    source, path = Source(write_small(tmp_path, quantised=quantised)), tmp_path / "model.onnx"
    if quantised:
        write_onnx(exact_onnx(source.network), path)
    else:
        write_onnx_form(source, path)
    alone, together = OnnxPredictor(path, threads=1), OnnxPredictor(path, at_once=3)
    name, shape = together.inputs[0]
    random = np.random.RandomState(0)
    images = random.rand(7, *shape[1:]).astype(np.float32)
    expected = [alone({name: image[None]}) for image in images]
    found = together({name: images})
    assert len({image.tobytes() for image in found[0]}) == 7  # else any order would do
    for got, wanted in zip(found, zip(*expected)):
        np.testing.assert_array_equal(got, np.concatenate(wanted))
