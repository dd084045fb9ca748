"""LiteRT, which runs `.tflite` files and brings their schema."""

from __future__ import annotations

from picoquant.backends.python_package import finder

TITLE = "LiteRT"
DISTRIBUTIONS = ("ai-edge-litert",)
VERSIONS = ">=2,<3"  # as the extra `tflite` in setup.cfg

find = finder("ai_edge_litert", DISTRIBUTIONS, VERSIONS)
