"""Espressif's esp-ppq: which, with what."""

from __future__ import annotations

from picoquant.backends.own_environment.installing import Terms
from picoquant.backends.own_environment.package import Package

_DISTRIBUTION, _VERSION = "esp-ppq", "1.3.12"
_PYTHONS = ("3.11", "3.10", "3.12")  # 3.11 was tried

PACKAGE = Package(
    name="esp_ppq",
    title="esp-ppq",
    distribution=_DISTRIBUTION,
    version=_VERSION,
    wheels=dict.fromkeys(_PYTHONS, "b9f92103432147eb527b9075b8bd5acb7a3d75af027b19aadc7aea0f411c12bd"),
    pythons=_PYTHONS,
    requirements=(  # as the wheel asks for them
        "torch>=2.1.0",
        "cryptography>=45.0.4",
        "flatbuffers>=25.2.10",
        "numpy>=1.24.0",
        "onnx>=1.17.0,<1.20.0",
        "onnxruntime>=1.19.0",
        "onnxscript>=0.6",
        "onnxsim==0.7.3",
        "setuptools>=75.3.0",
        "toml",
        "tqdm>=4.67.1",
    ),
    sizes=("1 MB", "1.2 GB with a torch for CPUs, several with the usual one"),
    terms=Terms(
        "esp-ppq as picoquant installs it",
        f"{_DISTRIBUTION}=={_VERSION} is Espressif's, under the Apache licence 2.0",
        "name a Python that has it with PICOQUANT_ESP_PPQ_PYTHON",
        accept=False,
    ),
    variable="PICOQUANT_ESP_PPQ_PYTHON",
)
