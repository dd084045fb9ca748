"""Only what setup.cfg cannot say: the data folders beside the package become part of it in a wheel."""

from setuptools import find_packages, setup

DATA = ("configs", "recipes", "calib", "npu_targets", "weights")
FILES = [f"**/*.{suffix}" for suffix in ("yml", "yaml", "txt", "safetensors", "md")]

setup(
    packages=[
        *find_packages(include=["picoquant", "picoquant.*"]),
        *(f"picoquant.{name}" for name in DATA),
    ],
    package_dir={f"picoquant.{name}": name for name in DATA},
    package_data={
        **{f"picoquant.{name}": FILES for name in DATA},
        "picoquant.packaging": ["board/**/*", "script/*.py"],
        "picoquant.backends.verisilicon": ["*.c"],
        "picoquant.report": ["templates/*"],
    },
)
