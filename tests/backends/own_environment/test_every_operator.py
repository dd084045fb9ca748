"""The vendors' own tools on a network with each operator, where they are installed: its integers survive."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.backends.base import Machine, load_backend
from picoquant.backends.onnx.files import write_onnx
from picoquant.backends.onnx.plain import make_plain_onnx
from picoquant.backends.onnx.runtime import OnnxPredictor
from picoquant.backends.source import Source
from picoquant.runtimes.backends import absence
from tests.networks.every_operator import quantised_with_zero_points
from tests.networks.small_net import batches

LEAST = {"rknn": 30.0, "tpu-mlir": 20.0, "esp-ppq": 12.0}  # signal to noise of all outputs, dB


def decibels(wanted, found) -> float:
    signal, other = (
        np.concatenate([value.ravel() for value in values]).astype(float) for values in (wanted, found)
    )
    return 10 * np.log10(np.square(signal).sum() / max(np.square(signal - other).sum(), 1e-30))


@pytest.mark.parametrize(
    ("name", "symmetric"), [("rknn", True), ("rknn", False), ("tpu-mlir", True), ("esp-ppq", True)]
)
def test_each_operator_is_computed_as_onnx_runtime_computes_it(name, symmetric, tmp_path):
    backend = load_backend(name)
    absent = absence(backend, Machine())
    if absent:
        pytest.skip(absent)
    source = Source(quantised_with_zero_points(tmp_path / "model", symmetric))
    assert bool(source.network.zero_points) != symmetric and backend.scheme.lacks(source.network) == ""
    write_onnx(make_plain_onnx(source.network, "int8"), tmp_path / "plain.onnx")
    image = next(batches(50))["image"][:1]
    wanted = OnnxPredictor(tmp_path / "plain.onnx", threads=1)({"image": image})
    tool = backend.toolchain.find(Machine())
    made = backend.export.export(source, tmp_path / "made", tool)
    with backend.runtime.open_files(made, tool, Machine()) as predict:
        found = predict({"image": image})
    assert [one.shape for one in found] == [one.shape for one in wanted]
    assert decibels(wanted, found) > LEAST[name]
