"""TPU-MLIR asked: what it builds, refuses, and how it crashes. Sophgo's own is not needed here."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from picoquant.backends.base import Exported, Machine
from picoquant.backends.own_environment.package import OwnTool
from picoquant.backends.tpu_mlir import runtime
from picoquant.backends.tpu_mlir.compiler import Session
from picoquant.errors import ToolError

_INIT = """
import os
os.environ["PATH"] = os.path.join(os.path.dirname(__file__), "bin") + os.pathsep + os.environ["PATH"]
"""
_SHELL = """
def top_opt_options():
    return ['--shape-infer']
def lowering_options(mode, chip, cali_table, weight_name):
    return ['--assign="chip=%s mode=%s"' % (chip, mode), '--table="file=%s"' % cali_table]
def tpu_opt_options():
    return ['--strip="a=False b= "']
def tpu_ada_options(enable_affine):
    return ['', '--affine']
def codegen_options(model, model_version):
    return ['--codegen="model_file=%s"' % model]
"""
_CONVERTER = """
class OnnxConverter:
    def __init__(self, name, model, *rest, **own):
        if "refused" in model:
            raise RuntimeError("Op not support:{'Foo'}")
    def generate_mlir(self, path):
        open(path, "w").write("mlir")
"""
_OPT = '''#!{python}
import os, signal, sys
fault = "{fault}"
source, out = sys.argv[1], sys.argv[-1]
if source == "top.mlir":
    assert sys.argv[2:4] == ["--assign=chip=cv181x mode=INT8", "--table=file=table.txt"], sys.argv
    print("lowering relu6_1.tmp_0_Clip", flush=True)
    if fault == "crash":
        os.kill(os.getpid(), signal.SIGABRT)
    if fault == "error":
        sys.exit("loc: error: 'top.Conv' op is wrong")
for option in sys.argv:
    if option.startswith("--codegen=model_file="):
        open(option.partition("model_file=")[2], "w").write("cvimodel")
if out.endswith(".mlir"):
    open(out, "w").write("""
      %3 = "tpu.Conv2D"(%1) : (tensor<1xf32>) -> tensor<1x18x160x160x!quant.uniform<i8:f32, 0.047>> loc(#loc4)
      %4 = "tpu.Cast"(%3) : (tensor<1x!quant.uniform<i8:f32, 0.047>>) -> tensor<1xf32> loc(#loc5)
      %5 = "tpu.Lut"(%3) : () -> tensor<1x3x!quant.uniform<i8:f32, 7.5E-3:-4>> loc(#loc6)
#loc4 = loc("relu6_0.tmp_0_Clip")
#loc5 = loc("out_f32")
#loc6 = loc("s_Sigmoid")
""")
'''
_RUNTIME = """
import numpy as np
class Tensor:
    def __init__(self, name, shape):
        self.name, self.data = name, np.zeros(shape, np.float32)
class Model:
    def __init__(self, path, output_all_tensors):
        assert output_all_tensors is False
        if open(path).read() != "cvimodel":
            raise RuntimeError("failed to read magic")
        self.inputs = [Tensor("image", (1, 3, 4, 5))]
        self.outputs = [Tensor("save_infer_model/scale_0.tmp_0_Transpose_f32", (1, 20, 3, 1))]
    def forward(self):
        self.outputs[0].data[:] = 2 * self.inputs[0].data.reshape(1, 3, 20).transpose(0, 2, 1)[..., None]
"""


def tool(folder, fault=""):
    """A program like `python` whose TPU-MLIR is a stand-in, with a fault: `crash`, `error`."""
    packages = folder / "packages"
    files = {
        "tpu_mlir/__init__.py": _INIT,
        "tpu_mlir/python/__init__.py": "",
        "tpu_mlir/python/utils/__init__.py": "",
        "tpu_mlir/python/utils/mlir_shell.py": _SHELL,
        "tpu_mlir/python/transform/OnnxConverter.py": _CONVERTER,
        "tpu_mlir/bin/tpuc-opt": _OPT.replace("{python}", sys.executable).replace("{fault}", fault),
        "pyruntime_cvi.py": _RUNTIME,
    }
    for name, text in files.items():
        (packages / name).parent.mkdir(parents=True, exist_ok=True)
        (packages / name).write_text(text)
    (packages / "tpu_mlir/bin/tpuc-opt").chmod(0o755)
    program = folder / "python"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{packages}" exec {sys.executable} "$@"\n')
    program.chmod(0o755)
    return OwnTool("TPU-MLIR", "1.30.2", program, "test")


def build(opened, out, model="m.onnx"):
    return opened.build(Path(model), Path("table.txt"), "cv181x", out)


def test_it_builds_and_says_the_scales_it_gave(tmp_path):
    with Session(tool(tmp_path)) as session:
        given = build(session, tmp_path / "m.cvimodel")
    assert given == {"relu6_0.tmp_0_Clip": 0.047, "s_Sigmoid": 0.0075}
    assert (tmp_path / "m.cvimodel").read_text() == "cvimodel"


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        # Its passes are programs of their own: their signal is in what was printed.
        (
            "crash",
            r"does not build m\.onnx for cv181x \(SIGABRT, it last spoke of operator relu6_1\.tmp_0_Clip\): tpuc-opt",
        ),
        ("error", r"does not build m\.onnx for cv181x: error: 'top\.Conv' op is wrong$"),
    ],
)  # fmt: skip
def test_what_it_does_not_build(fault, said, tmp_path):
    names = ("relu6_0.tmp_0_Clip", "relu6_1.tmp_0_Clip")
    with (
        Session(tool(tmp_path, fault), names) as session,
        pytest.raises(ToolError, match=f"^TPU-MLIR 1.30.2 {said}"),
    ):
        build(session, tmp_path / "m.cvimodel")
    assert not (tmp_path / "m.cvimodel").exists()


def test_an_operator_that_it_does_not_know_is_named(tmp_path):
    with (
        Session(tool(tmp_path)) as session,
        pytest.raises(
            ToolError,
            match=r"does not build refused\.onnx for cv181x: RuntimeError: Op not support:\{'Foo'\}",
        ),
    ):
        build(session, tmp_path / "m.cvimodel", "refused.onnx")


def test_the_c_model_gives_paddles_outputs_for_images_of_its_size_alone(tmp_path):
    (tmp_path / "m.cvimodel").write_text("cvimodel")
    with runtime.open_files(Exported((tmp_path / "m.cvimodel",)), tool(tmp_path), Machine()) as predict:
        assert (predict.input_names, predict.outputs) == (
            ("image",),
            (("save_infer_model/scale_0.tmp_0", (-1, 20, 3)),),
        )
        images = np.random.default_rng(0).random((2, 3, 4, 5), np.float32)
        (found,) = predict({"image": images})
        np.testing.assert_array_equal(found, 2 * images.reshape(2, 3, 20).transpose(0, 2, 1))
        with pytest.raises(
            ToolError, match=r"the \.cvimodel takes image as \[1, 3, 4, 5\], not \[1, 3, 8, 5\]"
        ):
            predict({"image": np.zeros((1, 3, 8, 5), np.float32)})


@pytest.mark.parametrize("there", [True, False])
def test_a_file_that_it_does_not_load_is_refused(tmp_path, there):
    file = tmp_path / "m.cvimodel"
    if there:
        file.write_text("something else")
    said = (
        r"TPU-MLIR 1\.30\.2 does not load m\.cvimodel: RuntimeError: failed"
        if there
        else r"cannot read .*m\.cvimodel: No such"
    )
    with (
        pytest.raises(ToolError, match=said),
        runtime.open_files(Exported((file,)), tool(tmp_path), Machine()),
    ):
        pass
