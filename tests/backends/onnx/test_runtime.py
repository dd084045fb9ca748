"""Models in ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from picoquant.backends.onnx.export import exact_onnx, write_onnx_form
from picoquant.backends.onnx.files import write_onnx
from picoquant.backends.onnx.runtime import OnnxPredictor, has_vnni, session_options
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


@pytest.mark.parametrize(
    ("text", "vnni"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_vnni\nflags\t\t: fpu avx2 avx_vnni\n", True),
        ("flags\t\t: fpu avx2 avx512f avx512_vnni\nflags\t\t: fpu avx2\n", False),  # of two kinds of cores
        ("flags\t\t: fpu avx2 avx512f avx512bw\n", False),
        ("Features\t: fp asimd asimddp\n", False),  # ARM
        ("", False),
    ],
)
def test_the_slow_exact_way_is_taken_but_where_vnni_is(text, vnni, tmp_path):
    (tmp_path / "cpuinfo").write_text(text)
    assert has_vnni(tmp_path / "cpuinfo") is vnni
    assert not has_vnni(tmp_path / "absent")


def test_with_vnni_the_switch_changes_no_value(small, tmp_path):
    """What lets `session_options` leave it out."""
    if not has_vnni():
        pytest.skip("this CPU has no VNNI: without the switch results are others")
    path = tmp_path / "model.onnx"
    write_onnx_form(Source(small), path)
    image = {"image": np.random.default_rng(0).random((1, 3, 32, 32), np.float32)}
    exact = onnxruntime.SessionOptions()
    exact.add_session_config_entry("session.x64quantprecision", "1")
    sessions = [
        onnxruntime.InferenceSession(path, one, providers=["CPUExecutionProvider"])
        for one in (session_options(1), exact)
    ]
    for one, two in zip(*(session.run(None, image) for session in sessions)):
        np.testing.assert_array_equal(one, two)
