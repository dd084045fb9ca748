"""Input size, batch and schedule for a data set and a machine, each with the reason in words."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from picoquant.commands.init.machine import Machine
from picoquant.utils.progress import duration

SIZES = (320, 416, 512, 640)  # the published sizes of PicoDet, and one between
WANTED = 0.95  # part of the boxes that are to be long enough
STRIDES = 2  # that a box is to be long: two anchor points in a row, wherever it lies

# docs/training.md, "From scratch": 205 images of BCCD, 60 epochs in batches of 8 at a rate of 0.06 reached mAP 0.47.
_IMAGES_SEEN = 205 * 60
_LEAST_EPOCHS, _MOST_EPOCHS = 30, 300  # the latter is the published schedule
_RATES = {16: 0.1, 8: 0.06, 4: 0.03}  # images of a batch -> base_lr; 16: recipes/quickstart.yaml
_RATE_OF_IMAGE = 0.0075  # of smaller batches
_STEPS = 20  # of an epoch, at least, for a larger batch to be chosen

# Images a second of `picoquant train` with S-NPU at 320 px in batches of 8, BCCD, reading included, on 2 cores of an
# AMD EPYC with AVX-512.
_SPEED, _AT, _CPUS = 21.0, 320, 2

# What a training process takes beside its images. Largest resident size of `picoquant train` at 320 px: 1.2 GB in
# batches of 4 images, 1.9 GB in batches of 8 (the same).
_BYTES_OF_PROCESS = 0.5e9
_PART = 0.6  # of the free memory that is planned for: reading processes and evaluation take some, too


@dataclass(frozen=True)
class Choice:
    """A value, and why it is that one: sentences for a comment, the first the shortest."""

    value: int
    why: str


@dataclass(frozen=True)
class Schedule:
    """How long and in which steps to train.

    Attributes:
        epochs, evaluate_every: epochs in all, and between two evaluations.
        batch: images of a step.
        base_lr: the rate for that batch.
        warmup: steps in which the rate rises.
        seconds: what training takes on this machine, an estimate.
        fits: whether the batch fits into the memory that is free now.
        why_epochs, why_batch, why_seconds: the reasons.
    """

    epochs: int
    evaluate_every: int
    batch: int
    base_lr: float
    warmup: int
    seconds: float
    fits: bool
    why_epochs: str
    why_batch: str
    why_seconds: str


def choose_input_size(longer_sides: Callable[[int], np.ndarray], stride: int) -> Choice:
    """The smallest of `SIZES` in which `WANTED` of the boxes are `STRIDES` strides long or longer.

    Args:
        longer_sides: of a square input's side, pixels -> [M] longer side of each training box in that input, pixels.
        stride: the network's smallest, input pixels.
    """
    least = STRIDES * stride
    found, part = SIZES[-1], 0.0
    for size in SIZES:
        sides = longer_sides(size)
        found, part = size, float((sides >= least).mean()) if len(sides) else 1.0
        if part >= WANTED:
            break
    shortest = np.quantile(longer_sides(found), 1 - WANTED) if len(longer_sides(found)) else 0
    why = (
        f"{part:.0%} of the training boxes have a longer side of {least} pixels or more in this input (two of the "
        f"network's strides of {stride}); {WANTED:.0%} of them have {shortest:.0f} or more"
    )
    if part >= WANTED:
        return Choice(
            found,
            f"{why}. The smallest of {_listed(SIZES)} for which {WANTED:.0%} do: a smaller input is faster",
        )
    return Choice(
        found,
        f"{why}. {WANTED:.0%} are wanted and the largest of {_listed(SIZES)} is taken: if the small ones matter, cut "
        "the images into tiles",
    )


def memory(batch: int, image_bytes: float) -> float:
    """Bytes that a training process takes at most for a batch: an estimate.

    Args:
        batch: images of a step.
        image_bytes: what each takes, see `detector.step_memory.bytes_of_one_image`.
    """
    return _BYTES_OF_PROCESS + batch * image_bytes


def choose_schedule(images: int, size: int, machine: Machine, image_bytes: float) -> Schedule:
    """Epochs and batch.

    Args:
        images: of the training set.
        size: side of the input, pixels.
        machine: what trains.
        image_bytes: see `memory`.
    """
    able = [one for one in _RATES if machine.free is None or memory(one, image_bytes) <= _PART * machine.free]
    batch, why_batch = _batch(images, image_bytes, machine, able)
    wanted = math.ceil(_IMAGES_SEEN / images)
    epochs = min(max(wanted, _LEAST_EPOCHS), _MOST_EPOCHS)
    total = epochs * images
    why_epochs = (
        f"{epochs} x {images} images = {total} are seen. On BCCD 12300 (205 images, 60 epochs) were enough "
        f"from scratch; never fewer than {_LEAST_EPOCHS} epochs, never more than {_MOST_EPOCHS}"
    )
    rate = _SPEED * (_AT / size) ** 2 * machine.cpus / _CPUS
    seconds = total / rate
    why_seconds = (
        f"an estimate: {_SPEED} images a second at {_AT} px on {_CPUS} idle cores, measured on another machine, by the "
        f"area of the input and the {machine.cpus} CPU{'s' if machine.cpus > 1 else ''} here: "
        f"{duration(seconds)} of training"
    )
    warmup = min(100, max(1, epochs * (images // batch) // 10))
    base_lr = _RATES.get(batch, _RATE_OF_IMAGE * batch)
    return Schedule(
        epochs,
        max(1, epochs // 10),
        batch,
        base_lr,
        warmup,
        seconds,
        bool(able),
        why_epochs,
        why_batch,
        why_seconds,
    )


def _batch(images: int, image_bytes: float, machine: Machine, able: Sequence[int]) -> tuple[int, str]:
    long_enough = [one for one in able if images // one >= _STEPS]
    batch = min((long_enough or able[-1:] or [min(_RATES)])[0], images)
    takes = f"about {memory(batch, image_bytes) / 1e9:.1f} GB (an estimate)"
    if not able and machine.free is not None:
        return batch, (
            f"{takes}, more than {_PART:.0%} of the {machine.free / 1e9:.1f} GB that are free here: close other "
            "programs, or choose a smaller input"
        )
    why = takes
    if machine.free is not None:
        why += f" of the {machine.free / 1e9:.1f} GB that are free here"
    larger = [one for one in _RATES if one > batch]
    if larger and larger[-1] in able:
        why += f"; larger ones make fewer than {_STEPS} steps of an epoch of {images} images"
    elif larger:
        why += f"; {larger[-1]} would take {memory(larger[-1], image_bytes) / 1e9:.1f} GB"
    return batch, why


def _listed(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))
