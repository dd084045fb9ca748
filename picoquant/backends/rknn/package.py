"""Rockchip's rknn-toolkit2: which, under which terms, with what."""

from __future__ import annotations

from picoquant.backends.own_environment.installing import Terms
from picoquant.backends.own_environment.package import Package

_DISTRIBUTION, _VERSION = "rknn-toolkit2", "2.5.0"

PACKAGE = Package(
    name="rknn",
    title="rknn-toolkit2",
    distribution=_DISTRIBUTION,
    version=_VERSION,
    wheels={
        "3.8": "cf391bd54357f16bfa455a443770128a6e90efce028ba181377c1c2955bdc5c7",
        "3.9": "33b741e9a7defae9617ee64d3e67175bd0a64747be4214d0e640dbd30541a7f5",
        "3.10": "7dead4048d60f9cf29dc6017cf0f1dbb30f5f1d4f227c5e2e6739d9fe3e5eec6",
        "3.11": "21922dd3037503a2934fea24cbbf6eccda586158178636ae28a2ac658e710055",
        "3.12": "037765a9051df0031679b853698da11f36d28333e1d65f0c87516d06ee39eb33",
    },
    pythons=("3.11", "3.10", "3.12"),  # 3.11 was tried
    # As the wheel asks for them, but for torch: it asks for at most 2.4.0, and works with the torch of the day.
    requirements=(
        "setuptools<80",
        "torch",
        "numpy<=1.26.4",
        "onnx>=1.16.1,<=1.18.0",
        "onnxruntime>=1.17.0",
        "protobuf>=4.21.6,<=4.25.4",
        "psutil>=5.9.0",
        "ruamel.yaml>=0.17.21",
        "scipy>=1.9.3",
        "tqdm>=4.64.1",
        "opencv-python>=4.5.5.64",
        "fast-histogram>=0.11",
    ),
    sizes=("40 MB", "1.5 GB with a torch for CPUs, several with the usual one"),
    terms=Terms(
        "rknn-toolkit2's simulator",
        f"{_DISTRIBUTION}=={_VERSION} is Rockchip's, under the RKNN SDK License (LICENSE in airockchip/rknn-toolkit2), "
        "which who installs it agrees to: a right to use it solely for applications that are compatible with "
        "Rockchip's products, no decompiling or reverse engineering, no warranty, law of the PRC. It is fetched from "
        "your package index for you alone, and nothing of it goes into a package or a repository",
        "make .rknn files on another machine",
    ),
    variable="PICOQUANT_RKNN_PYTHON",
)
