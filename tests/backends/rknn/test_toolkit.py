"""rknn-toolkit2 asked; what it refuses, and how it crashes. Rockchip's own is not needed here."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

from picoquant.backends.base import Exported, Machine
from picoquant.backends.own_environment.package import OwnTool
from picoquant.backends.placement import CPU, NPU
from picoquant.backends.rknn import runtime
from picoquant.backends.rknn.form import OUTPUTS, PLATFORM, SHA256
from picoquant.backends.rknn.report import read_report
from picoquant.backends.rknn.toolkit import Session
from picoquant.errors import ToolError, WeightsError
from picoquant.storage.files import sha256
from tests.backends.rknn.toolkits import python_with


def tool(folder, fault=""):
    return OwnTool("rknn-toolkit2", "2.5.0", python_with(folder, fault), "test")


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("crash", r"does not build m\.onnx for rk3588 \(SIGSEGV\): build: one thing$"),
        ("refuse", r"does not build m\.onnx for rk3588: IndexError: list index out of range$"),
        ("code", r"does not build m\.onnx for rk3588: build: one thing$"),
    ],
)
def test_what_it_does_not_build(fault, said, tmp_path):
    with (
        Session(tool(tmp_path, fault)) as session,
        pytest.raises(ToolError, match=f"^rknn-toolkit2 2.5.0 {said}"),
    ):
        session.build(tmp_path / "m.onnx", "rk3588", tmp_path / "m.rknn")
    assert not (tmp_path / "m.rknn").exists()


def test_a_session_builds_and_runs(tmp_path):
    with Session(tool(tmp_path)) as session:
        assert "one thing" in session.build(tmp_path / "m.onnx", "rv1106", tmp_path / "m.rknn")
        assert (tmp_path / "m.rknn").read_text() == "rv1106"
        session.simulate(tmp_path / "m.onnx", "rv1106")
        image = np.random.default_rng(0).random((1, 3, 4, 5), np.float32)
        seconds, (found,) = session.run([image])
    assert seconds >= 0
    np.testing.assert_array_equal(found, 2 * image)


def written(folder):
    """A file with its ONNX, whose one output is a map of twice the image."""
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["image"], ["map"])],
        "g",
        [value("image", onnx.TensorProto.FLOAT, [1, 3, 4, 5])],
        [value("map", onnx.TensorProto.FLOAT, [1, 3, 4, 5])],
    )
    (folder / "m.rknn").write_text("rk3588")
    model = onnx.helper.make_model(graph)
    described = {
        OUTPUTS: json.dumps([["out", [1, 20, 3]]]),
        PLATFORM: "rk3588",
        SHA256: sha256(folder / "m.rknn"),
    }
    onnx.helper.set_model_props(model, described)
    onnx.save(model, folder / "m.onnx")
    return Exported((folder / "m.rknn", folder / "m.onnx"))


def test_the_runtime_gives_paddles_outputs_for_images_of_its_size_alone(tmp_path):
    made = written(tmp_path)
    with runtime.open_files(made, tool(tmp_path), Machine()) as predict:
        assert (predict.input_names, predict.outputs) == (("image",), (("out", (-1, 20, 3)),))
        images = np.random.default_rng(0).random((2, 3, 4, 5), np.float32)
        (found,) = predict({"image": images})
        np.testing.assert_array_equal(found, 2 * images.reshape(2, 3, 20).transpose(0, 2, 1))
        with pytest.raises(ToolError, match=r"the \.rknn takes image as \[1, 3, 4, 5\], not \[1, 3, 8, 5\]"):
            predict({"image": np.zeros((1, 3, 8, 5), np.float32)})


def test_a_file_that_was_not_built_from_its_onnx_is_refused(tmp_path):
    made = written(tmp_path)
    made.files[0].write_text("rk3566")
    with (
        pytest.raises(WeightsError, match=r"m\.rknn is not what was built from m\.onnx: export or package"),
        runtime.open_files(made, tool(tmp_path), Machine()),
    ):
        pass


LOG = """
D RKNN: [10:00:00.100] ID   OpType             DataType Target InputShape      OutputShape   Cycles(DDR/NPU/Total)    RW(KB)       FullName
D RKNN: [10:00:00.100] 0    InputOperator      INT8     CPU    \\               (1,3,320,320)   0/0/0                    0            InputOperator:image
D RKNN: [10:00:00.100] 1    ConvClip           INT8     NPU    (1,3,320,320),(18,3,3,3),(18)   (1,18,160,160)   47741/230400/230400      302          Conv:first
D RKNN: [10:00:00.101] 12   Softmax            FLOAT16  CPU    (1,96,20,20)    (1,96,20,20)    0/0/0       151          Softmax:last
D RKNN: [10:00:00.101] 13   Concat             INT8     NPU    (1,96,20,20),(1,96,20,20) (1,192,20,20)  8197/0/8197    151   Concat:both
D RKNN: [10:00:00.101] 14   OutputOperator     INT8     CPU    (1,1,5,5)       \\               0/0/0                    0            OutputOperator:out
D RKNN: [10:00:00.668] Total Internal Memory Size: 2700KB
D RKNN: [10:00:00.668] Total Weight Memory Size: 1195.94KB
"""  # noqa: E501  made up, in the toolkit's form


def test_its_report_is_read():
    board = read_report(LOG, "2.5.0")
    assert board.operators == {NPU: 2, CPU: 1} and board.on_cpu == (("Softmax", "last"),)
    assert (board.cycles, board.memory) == (238597, {"tensors": 2764800, "weights": 1224643})
    with pytest.raises(
        ToolError, match=r"the report of rknn-toolkit2 3\.0 has another form than that of 2\.5\.0"
    ):
        read_report("Total Internal Memory Size: 2700KB", "3.0")
