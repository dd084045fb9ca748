"""The compiler's side of `compiler.py`, in the Python that has TPU-MLIR: see `own_environment/answering.py`."""

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from unittest.mock import MagicMock

import numpy as np
import tpu_mlir  # sets the paths that its programs need

_PYTHON = os.path.join(os.path.dirname(tpu_mlir.__file__), "python")
# Its importer of ONNX imports these for layers that picoquant's networks have not.
sys.modules.update(dict.fromkeys(("torch", "onnxruntime_extensions"), MagicMock()))
sys.path.insert(0, _PYTHON)

_NAMED = re.compile(r'^(#loc\d*) = loc\("([^"]+)"', re.M)
_SCALED = re.compile(r"-> tensor<[^>]*!quant\.uniform<i8:f32, ([-+.eE0-9]+)(?::-?\d+)?>> loc\((#loc\d*)\)")


def passes(source, options, made):
    """Run its passes over a file."""
    command = shlex.split(" ".join(["tpuc-opt", source, *options, "-o", made]))
    code = subprocess.run(command, stdin=subprocess.DEVNULL).returncode
    if code:
        ended = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        print(f"tpuc-opt ended with {ended}")
        raise Exception


def scales(path):
    """The scale of each INT8 tensor of an MLIR file, by name."""
    with open(path, encoding="utf-8") as stream:
        text = stream.read()
    names = dict(_NAMED.findall(text))
    return {names[place]: float(scale) for scale, place in _SCALED.findall(text) if place in names}


def questions():
    """What builds and runs networks, by name."""
    loaded = []

    def build(model, table, chip, out):
        from tpu_mlir.python.utils import mlir_shell as shell
        from transform.OnnxConverter import OnnxConverter

        converter = OnnxConverter("network", model, [], [], "", {}, dump_final_opt=False)
        converter.generate_mlir("origin.mlir")
        passes("origin.mlir", shell.top_opt_options(), "top.mlir")
        lowering = shell.lowering_options("INT8", chip, cali_table=table, weight_name="lowered_weights.npz")
        passes("top.mlir", lowering, "lowered.mlir")
        placing = [*shell.tpu_opt_options(), *shell.tpu_ada_options(enable_affine=True)]
        passes("lowered.mlir", placing, "final.mlir")
        passes("final.mlir", shell.codegen_options(out, model_version="latest"), os.devnull)
        return scales("lowered.mlir")

    def load(path):
        import pyruntime_cvi

        loaded.append(pyruntime_cvi.Model(path, output_all_tensors=False))
        model = loaded[-1]
        return [[(one.name, tuple(one.data.shape)) for one in side] for side in (model.inputs, model.outputs)]

    def run(inputs):
        model = loaded[-1]
        for (shape, content), place in zip(inputs, model.inputs):
            place.data[:] = np.frombuffer(content, "<f4").reshape(shape)
        began = time.perf_counter()
        model.forward()
        seconds = time.perf_counter() - began
        results = [np.array(one.data, np.float32) for one in model.outputs]
        return seconds, [(value.shape, value.astype("<f4").tobytes()) for value in results]

    return {"build": build, "load": load, "run": run}
