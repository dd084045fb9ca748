"""A Python whose `rknn` package is a stand-in, for what happens at the border of the process without the real one."""

from __future__ import annotations

import sys
from pathlib import Path

_PACKAGE = """
import os
import signal

class RKNN:
    def __init__(self, verbose=False):
        pass
    def config(self, **settings):
        assert settings == {"target_platform": settings["target_platform"], "optimization_level": 2}
        self.platform = settings["target_platform"]
    def load_onnx(self, model):
        self.model = model
        return 0
    def build(self, do_quantization):
        assert do_quantization is False
        print("E build: one thing", flush=True)
        if os.environ["FAULT"] == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if os.environ["FAULT"] == "refuse":
            raise ValueError("Traceback (most recent call last):\\n  File x\\nIndexError: list index out of range\\n")
        return -1 if os.environ["FAULT"] == "code" else 0
    def export_rknn(self, path):
        with open(path, "w") as stream:
            stream.write(self.platform)
        return 0
    def init_runtime(self):
        return 0
    def inference(self, inputs, data_format):
        assert data_format == ["nchw"]
        return [inputs[0] * 2]
    def release(self):
        pass
"""


def python_with(folder: Path, fault: str = "", version: str = "2.5.0") -> Path:
    """A program like `python`, in which `rknn.api.RKNN` has a fault: `crash`, `refuse`, `code`."""
    api = folder / "packages" / "rknn"
    api.mkdir(parents=True)
    (api / "__init__.py").write_text("")
    (api / "api.py").write_text(_PACKAGE)
    about = folder / "packages" / f"rknn_toolkit2-{version}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: rknn-toolkit2\nVersion: {version}\n")
    program = folder / "python"
    program.write_text(
        f'#!/bin/sh\nFAULT={fault} PYTHONPATH="{folder / "packages"}" exec {sys.executable} "$@"\n'
    )
    program.chmod(0o755)
    return program
