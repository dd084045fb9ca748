"""MNN: its converter kept from what it does unasked, our scales in its file, its outputs in order."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.backends.base import Machine, load_backend
from picoquant.backends.mnn.compression import in_integers
from picoquant.backends.mnn.converter import convert
from picoquant.backends.source import Source
from picoquant.errors import ToolError
from tests.backends.float_files import check_float_and_half
from tests.networks.quick_int8 import exported

MNN = load_backend("mnn")


@pytest.fixture(scope="module")
def tool():
    pytest.importorskip("MNN")
    return MNN.toolchain.find(Machine())


def test_float_is_equal_and_half_is_half_the_size(tool, tmp_path):
    names = ("output_00", "output_01")
    check_float_and_half(MNN, tool, "picodet_xs_320_coco_lcnet.yml", tmp_path, names)


def test_the_int8_file_holds_the_integers(models, tool, tmp_path):
    """Every weight of a layer in INT8 is found in the file, which is as small as they are."""
    source = Source(models())
    made = MNN.export.export(source, tmp_path / "model", tool)
    chosen = in_integers(source.network)
    assert len(chosen) == len(source.network.operators)
    content, stored = made.files[0].read_bytes(), sum(one.integers.size for one, _ in chosen)
    assert stored < made.bytes < 1.6 * stored
    scales = np.float32(chosen[3][0].scales).tobytes()
    assert scales in content  # a scale for each channel, as they are


def test_its_converter_reaches_no_pip_and_says_nothing_to_stdout(models, tool, tmp_path, monkeypatch, capfd):
    """Its own wrapper calls pip when a client for its makers' logs is absent."""
    pip = tmp_path / "bin" / "pip"
    pip.parent.mkdir()
    pip.write_text(f"#!/bin/sh\ntouch {tmp_path}/called\n")
    pip.chmod(0o755)
    monkeypatch.setenv("PATH", str(pip.parent), prepend=":")
    made = MNN.export.export(Source(models()), tmp_path / "model", tool)
    with MNN.runtime.open_files(made, tool, Machine(1)) as predict:
        assert len(predict.outputs) == 12
    assert not (tmp_path / "called").exists() and capfd.readouterr().out == ""


def test_what_it_does_not_take_is_refused_in_one_line(tool, tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"no model")
    with pytest.raises(ToolError, match=r"^MNN's converter made no file of model.onnx \([^\n]*$"):
        convert(tool.path, tmp_path / "model.onnx", tmp_path / "out.mnn")
    folder = exported("picodet_s_416_coco_npu.yml", tmp_path / "all", kind="detections")
    with pytest.raises(ToolError, match="for MNN export it as raw"):
        MNN.export.export(Source(folder), tmp_path / "all", tool)
