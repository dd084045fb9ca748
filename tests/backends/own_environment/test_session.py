"""A tool in a process of its own: answers, refusals, crashes. The tools here are scripts of a few lines."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from picoquant.backends.own_environment.built_from import require_built_from
from picoquant.backends.own_environment.package import OwnTool
from picoquant.backends.own_environment.predictor import SessionPredictor
from picoquant.backends.own_environment.session import Session, reason
from picoquant.errors import ToolError, WeightsError
from picoquant.storage.files import sha256

SCRIPT = """
import os, signal, subprocess, sys
import numpy as np

def questions():
    def add(one, two):
        print("adding")
        subprocess.run(["echo", "in another program"])
        return one + two
    def refuse():
        print("E this and that are wrong")
        raise Exception
    def fail():
        raise KeyError("conv_1")
    def crash():
        print("at conv_1"); print("at conv_12 now", flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)
    def end():
        sys.exit(3)
    def run(inputs):
        shape, content = inputs[0]
        return 0.5, [(shape, (2 * np.frombuffer(content, "<f4")).tobytes())]
    return {"add": add, "refuse": refuse, "fail": fail, "crash": crash, "end": end, "run": run}
"""


@pytest.fixture
def session(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    tool = OwnTool("a tool", "1.2", Path(sys.executable), "test")
    with Session(tool, tmp_path / "script.py", names=("conv_1", "conv_12", "conv_2")) as opened:
        yield opened


def test_answers_come_with_what_was_printed(session):
    assert session.ask("does not add", "add", 1, 2) == (3, "adding\nin another program\n")
    assert session.ask("does not add", "add", "a", "b")[0] == "ab"


def test_after_a_refusal_it_still_answers(session):
    with pytest.raises(ToolError, match=r"^a tool 1\.2 does not do it: this and that are wrong$"):
        session.ask("does not do it", "refuse")
    with pytest.raises(ToolError, match=r"^a tool 1\.2 does not do it: KeyError: 'conv_1'$"):
        session.ask("does not do it", "fail")
    assert session.ask("does not add", "add", 1, 2)[0] == 3


def test_a_crash_names_the_signal_and_the_operator_it_spoke_of(session):
    with pytest.raises(ToolError) as error:
        session.ask("does not build", "crash")
    assert str(error.value) == (
        "a tool 1.2 does not build (SIGSEGV, it last spoke of operator conv_12): at conv_12 now"
    )


def test_an_exit_code_is_said(session):
    with pytest.raises(ToolError, match=r"does not build \(exit code 3\): "):
        session.ask("does not build", "end")


def test_a_script_that_cannot_be_loaded_is_refused_with_its_error(tmp_path):
    (tmp_path / "script.py").write_text("import no_such_package\n")
    tool = OwnTool("a tool", "1.2", Path(sys.executable), "test")
    with (
        Session(tool, tmp_path / "script.py") as session,
        pytest.raises(
            ToolError, match=r"\(exit code 1\): ModuleNotFoundError: No module named 'no_such_package'"
        ),
    ):
        session.ask("does not add", "add", 1, 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\x1b[1;31mE\x1b[0m \x1b[1;31mload_onnx: the opset is 4\x1b[0m\nmore", "load_onnx: the opset is 4"),
        ("E RKNN: [10:47:14.514] Unknown op target: 0\nValueError: bad\n", "ValueError: bad"),
        (
            "ValueError: Traceback (most recent call last):\n  File x\nIndexError: out of range\n",
            "IndexError: out of range",
        ),
        ("tpuc-opt: a.cpp:12: Assertion `n > 0' failed.\ntpuc-opt ended with SIGABRT", "Assertion `n > 0' failed."),
        ('loc("x"): error: no such pass\ntpuc-opt ended with exit code 1\n', "error: no such pass"),
        ("nothing telling\nat all", "at all"),
        ("", "no message"),
    ],
)  # fmt: skip
def test_the_telling_line(text, said):
    assert reason(text) == said


def test_a_network_in_it_takes_images_of_its_size_one_by_one(session):
    session.run = lambda inputs: session.call("does not run", inputs)
    inputs, outputs = (("image", (1, 3, 4, 5)),), (("out", (1, 3, 4, 5)),)
    predict = SessionPredictor(session, inputs, outputs, ".npu", lambda values: [-values[0]])
    assert (predict.input_names, predict.outputs) == (("image",), (("out", (-1, 3, 4, 5)),))
    images = np.random.default_rng(0).random((2, 3, 4, 5), np.float32)
    np.testing.assert_array_equal(predict({"image": images})[0], -2 * images)
    assert predict.network_seconds == 1.0
    with pytest.raises(
        ToolError, match=r"the \.npu takes image as \[1, 3, 4, 5\], not \[1, 3, 8, 5\]: export it"
    ):
        predict({"image": np.zeros((1, 3, 8, 5), np.float32)})


def test_a_file_belongs_to_the_form_that_it_was_built_from(tmp_path):
    file, form = tmp_path / "m.npu", tmp_path / "m.onnx"
    file.write_text("one")
    require_built_from(file, form, sha256(file))
    digest = sha256(file)
    file.write_text("two")
    with pytest.raises(WeightsError, match=r"m\.npu is not what was built from m\.onnx: export or package"):
        require_built_from(file, form, digest)
    file.unlink()
    with pytest.raises(ToolError, match=r"cannot read .*m\.npu: No such file"):
        require_built_from(file, form, digest)
