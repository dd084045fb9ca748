"""rknn-toolkit2 found and asked; what it refuses, and how it crashes. Rockchip's own is not needed here."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from picoquant.backends.base import Exported, Machine
from picoquant.backends.homes import tool_homes
from picoquant.backends.placement import CPU, NPU
from picoquant.backends.rknn import install, runtime, toolchain
from picoquant.backends.rknn.form import OUTPUTS, PLATFORM, SHA256
from picoquant.backends.rknn.report import read_report
from picoquant.backends.rknn.toolkit import Session, reason
from picoquant.errors import ToolError, WeightsError
from picoquant.storage.files import sha256
from picoquant.utils.subprocesses import Outcome
from tests.backends.rknn.toolkits import python_with


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.delenv(toolchain.VARIABLE, raising=False)
    monkeypatch.setenv("PICOQUANT_HOME", str(tmp_path / "own"))
    home = tool_homes("rknn")[0]
    monkeypatch.setattr(toolchain, "tool_homes", lambda name: [home])
    return home


def test_absent_it_says_what_to_install(home):
    with pytest.raises(ToolError) as error:
        toolchain.find(Machine())
    said = str(error.value)
    assert said.startswith(
        "rknn-toolkit2 is not installed: run `picoquant toolchain install rknn --accept-licence`"
    )
    assert "PICOQUANT_RKNN_PYTHON" in said and "\n" not in said


def test_a_python_without_it_is_refused(home, monkeypatch):
    monkeypatch.setenv(toolchain.VARIABLE, sys.executable)
    with pytest.raises(
        ToolError, match=r"\(from PICOQUANT_RKNN_PYTHON\) has no rknn-toolkit2: .*NotFoundError"
    ):
        toolchain.find(Machine())
    monkeypatch.setenv(toolchain.VARIABLE, "/nowhere/python")
    with pytest.raises(ToolError, match=r"cannot run /nowhere/python: No such file"):
        toolchain.find(Machine())


def test_another_version_is_used_with_a_warning(home, monkeypatch, tmp_path, caplog):
    program = python_with(tmp_path, version="2.6.1")
    monkeypatch.setenv(toolchain.VARIABLE, str(program))
    found = toolchain.find(Machine())
    assert (found.version, found.path, found.origin) == ("2.6.1", program, "PICOQUANT_RKNN_PYTHON")
    assert caplog.messages == [f"rknn-toolkit2 2.6.1 is used, picoquant was tried with 2.5.0: {program}"]


def tool(folder, fault=""):
    return toolchain.Toolkit("2.5.0", python_with(folder, fault), "test")


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


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\x1b[1;31mE\x1b[0m \x1b[1;31mload_onnx: the opset is 4\x1b[0m\nmore", "load_onnx: the opset is 4"),
        ("E RKNN: [10:47:14.514] Unknown op target: 0\nValueError: bad\n", "ValueError: bad"),
        ("nothing telling\nat all", "at all"),
        ("", "no message"),
    ],
)
def test_the_telling_line(text, said):
    assert reason(text) == said


def test_the_licence_must_be_accepted(home):
    with pytest.raises(
        ToolError, match=r"under the RKNN SDK License.*if you accept that, add --accept-licence"
    ):
        install.install_toolkit(False, folder=home)
    assert not home.exists()


def test_only_linux_on_x86(home, monkeypatch):
    monkeypatch.setattr(install.platform, "machine", lambda: "aarch64")
    with pytest.raises(ToolError, match=r"for Linux on 64-bit x86, this is Linux aarch64"):
        install.install_toolkit(True, folder=home)


def test_a_folder_with_something_else_is_left(home):
    home.mkdir(parents=True)
    (home / "mine.txt").write_text("x")
    with pytest.raises(ToolError, match=r"holds something else; name an empty folder"):
        install.install_toolkit(True, folder=home)
    assert (home / "mine.txt").read_text() == "x"


@pytest.mark.parametrize(
    ("fetched", "said"),
    [
        (False, r"could not fetch rknn-toolkit2==2\.5\.0: ERROR: no matching"),
        (True, r"its SHA-256 is another"),
    ],
)
def test_another_file_or_none_leaves_nothing(home, monkeypatch, fetched, said):
    def pip(command, **own):
        if fetched:
            folder = command[command.index("--dest") + 1]
            (Path(folder) / "rknn_toolkit2.whl").write_bytes(b"something else")
        return Outcome(0 if fetched else 1, "looking\nERROR: no matching distribution\n")

    monkeypatch.setattr(install, "run_program", pip)
    monkeypatch.setattr(install, "find_python", lambda *_: (Path(sys.executable), "3.11.7"))
    monkeypatch.setattr(install, "make_environment", lambda folder, *_: folder.mkdir())
    with pytest.raises(ToolError, match=said):
        install.install_toolkit(True, folder=home)
    assert not home.exists() and not list(home.parent.iterdir())


def test_what_was_installed_is_found(home, tmp_path):
    (home / "bin").mkdir(parents=True)
    python_with(tmp_path).rename(home / "bin" / "python")
    (home / install.COMPLETE).write_text("{}")
    found = toolchain.find(Machine())
    assert (found.version, found.python) == ("2.5.0", home / "bin" / "python")
    assert "is installed" in install.install_toolkit(False, folder=home)
