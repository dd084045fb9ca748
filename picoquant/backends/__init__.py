"""Toolchains, one folder each: `toolchain.py`, `export.py`, `runtime.py`, `report.py`."""
