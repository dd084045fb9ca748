"""VeriSilicon's acuitylite, the Python package: which, with what."""

from __future__ import annotations

from picoquant.backends.own_environment.installing import Terms
from picoquant.backends.own_environment.package import Package
from picoquant.backends.verisilicon.install import REQUIREMENT, SHA256, TERMS

_DISTRIBUTION, _, _VERSION = REQUIREMENT.partition("==")

PACKAGE = Package(
    name="acuity",
    title="acuity",
    distribution=_DISTRIBUTION,
    version=_VERSION,
    wheels={"3.10": SHA256},
    pythons=("3.10",),  # picoquant knows this wheel alone
    # As the wheel asks for them, with TensorFlow for CPUs, and torch, which it imports and does not ask for.
    requirements=(
        "dill==0.2.8.2",
        "networkx==3.3",
        "numpy==1.26.4",
        "onnx==1.16.2",
        "onnxoptimizer==0.3.13",
        "ply==3.11",
        "protobuf==3.20.3",
        "ruamel.yaml==0.17.40",
        "scipy==1.14.1",
        "tensorflow-cpu==2.17.0",
        "torch==1.12.1",
        "setuptools<80",
    ),
    sizes=("250 MB", "3.6 GB"),
    terms=Terms("VeriSilicon's acuity", TERMS.licence, "`picoquant eval --target` simulates the integers"),
    variable="PICOQUANT_ACUITY_PYTHON",
)
