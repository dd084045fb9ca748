"""Sophgo's TPU-MLIR: which, with what."""

from __future__ import annotations

from pathlib import Path

from picoquant.backends.own_environment.installing import Terms
from picoquant.backends.own_environment.package import Package

_DISTRIBUTION, _VERSION = "tpu-mlir", "1.30.2"
FOLDER = "tpu_mlir"  # of the installed package
# It comes with the C library of Ubuntu 22.04, with which nothing starts on a newer system: that one's is used.
_SYSTEM = ("libc.so.6", "libm.so.6", "libpthread.so.0", "libstdc++.so.6", "libgcc_s.so.1")


def _without_system_libraries(packages: Path) -> None:
    for name in _SYSTEM:
        (packages / FOLDER / "lib" / "third_party" / name).unlink(missing_ok=True)


PACKAGE = Package(
    name="tpu_mlir",
    title="TPU-MLIR",
    distribution=_DISTRIBUTION,
    version=_VERSION,
    wheels={"3.10": "542807361c9eeb0777a7bd35e501d8c71cce767e4bce021a3cb3a7c25c35f909"},
    pythons=("3.10",),  # its libraries are for this one alone
    # What the way from ONNX to a .cvimodel imports: of all that the wheel asks for, PyTorch among it, 5 GB are not.
    requirements=(
        "numpy==1.24.3",
        "onnx==1.14.1",
        "onnxruntime==1.16.3",
        "onnxsim==0.4.17",
        "protobuf==3.20.3",
        "opencv-python-headless==4.8.0.74",
        "Pillow==10.0.0",
        "plotly==5.15.0",
        "tqdm==4.65.0",
        "psutil",
        "setuptools<80",
    ),
    sizes=("310 MB", "1.5 GB"),
    terms=Terms(
        "TPU-MLIR",
        f"{_DISTRIBUTION}=={_VERSION} is Sophgo's, under the 2-clause BSD licence",
        "make .cvimodel files on another machine",
        accept=False,
    ),
    variable="PICOQUANT_TPU_MLIR_PYTHON",
    finish=_without_system_libraries,
)
