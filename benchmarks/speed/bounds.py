"""The least that whole pieces of work take, of what limit.py measures and of what our side of a measurement says.

Why each is what it is, and where it is loose, stands in limit.py.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Bounds = Mapping[str, float]
Said = Mapping[str, Any]
Bound = Callable[[Bounds, Said], float | None]

SMALL_SIZE = 320  # input of the README's five lines
SMALL = f"{SMALL_SIZE}: "  # begins the names of bounds of a network with that input


def known(count: Callable[[Bounds, Said], float]) -> Bound:
    """None where a rate, or what it is a rate of, is not known."""

    def bound(bounds: Bounds, said: Said) -> float | None:
        try:
            return count(bounds, said)
        except KeyError:
            return None

    return bound


def named(name: str) -> Bound:
    """One of limit.py's own."""
    return lambda bounds, said: bounds.get(name)


def evaluation(precision: str) -> Bound:
    """Decoding of the images and the network, on all threads together."""
    return known(
        lambda bounds, said: (
            said["pixels"] / bounds["jpegs"] + said["images"] * bounds[f"one image, {precision}"]
        )
    )


def _ptq(bounds: Bounds, said: Said) -> float:
    """Decoding, the passes of calibration, and one evaluation in INT8."""
    return (
        said["pixels"] / bounds["jpegs"]
        + bounds[f"calibration, {said['images']} images"]
        + said["evaluated"] * bounds["one image, int8"]
    )


def _run(bounds: Bounds, said: Said) -> float:
    """Decoding, once; calibration; steps; evaluations in INT8 and the one in FP32; the package."""
    int8, fp32 = (bounds[f"{SMALL}one image, {precision}"] for precision in ("int8", "fp32"))
    return (
        said["pixels"] / bounds["jpegs"]
        + bounds[f"{SMALL}calibration, {said['calibrated']} images"]
        + said["steps"] * bounds[f"{SMALL}QAT step, batch {said['batch']}"]
        + said["evaluated"] * (said["evaluations"] * int8 + fp32)
        + _files(bounds, said)
    )


def _files(bounds: Bounds, said: Said) -> float:
    """Reading the models, writing the files of packages, and packing them."""
    return said["packing"] + sum(
        said[f"bytes_{what}"] / bounds[f"files, {what}"] for what in ("read", "written")
    )


ptq, run, packages = known(_ptq), known(_run), known(_files)


def start(folder: Path, images: int) -> Bound:
    """Parsing the annotations and opening every image, on all threads.

    Args:
        folder: holds `instances.json`, when the bound is asked for.
        images: how many there are.
    """
    return known(
        lambda bounds, said: (
            (folder / "instances.json").stat().st_size / bounds["files, json"]
            + images / bounds["files, opened"]
        )
    )
