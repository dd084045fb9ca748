"""Calibration images: read once, kept in files, used several times. Memory holds one batch."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.errors import DataError

LOG = logging.getLogger("picoquant")

_FEW = 16  # below this many images the ranges depend on which ones they are


class CalibrationImages:
    """Batches that can be gone through again and again, always the same.

    Args:
        batches: feeds; `count` of them are taken.
        count: how many.
        folder: gets the files; whoever made it removes it.
        names: of the images, in their order, for messages.

    Raises: `DataError` when there is no image.
    """

    def __init__(
        self,
        batches: Iterable[dict[str, np.ndarray]],
        count: int,
        folder: Path,
        names: Sequence[str] = (),
    ) -> None:
        self._names = names
        folder.mkdir(parents=True, exist_ok=True)
        self._files: list[Path] = []
        self.images = 0
        for number, batch in enumerate(itertools.islice(batches, count)):
            self._files.append(folder / f"{number}.npz")
            np.savez(self._files[-1], **batch)
            self.images += len(next(iter(batch.values())))
        if not self._files:
            raise DataError("there is no image to calibrate on: Calibration says which are used")
        if self.images < _FEW:
            LOG.warning(
                "quantize: calibrated on %d image%s only: ranges that other images need may be cut off; "
                "Calibration.count sets how many",
                self.images,
                "" if self.images == 1 else "s",
            )

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._files)

    def label(self, place: int) -> str:
        """An image (from 1) as a message says it."""
        name = f", {self._names[place - 1]}," if place <= len(self._names) else ""
        return f"calibration image {place}{name} (in the order of Calibration)"

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        """The batches."""
        for file in self._files:
            with np.load(file) as arrays:
                yield dict(arrays)


def watch(
    images: CalibrationImages,
    run: Callable[[dict[str, np.ndarray]], Sequence[np.ndarray]],
    names: Sequence[str],
    makers: Callable[[str], str],
    shown: Callable[[int], None],
) -> Iterator[tuple[str, np.ndarray]]:
    """Run a network over the images and give each tensor of each batch.

    Args:
        images: what it is fed with.
        run: gives the tensors of a batch.
        names: of the tensors.
        makers: says what computes a tensor, for messages.
        shown: called with the number of batches done.

    Raises: `DataError` naming the first tensor that is not finite, its layer and the image.
    """
    before = 0
    for done, batch in enumerate(images, start=1):
        size = len(next(iter(batch.values())))
        for name, value in zip(names, run(batch)):
            if not np.isfinite(value).all():
                rows = ~np.isfinite(value.reshape(len(value), -1)).all(1) if len(value) == size else [True]
                place = before + int(np.argmax(rows)) + 1
                raise DataError(
                    f"activation {name} of {makers(name)} is not finite for {images.label(place)}: check the "
                    "model's weights and that the images are prepared as infer_cfg.yml says"
                )
            yield name, value
        before += size
        shown(done)


def maker_of(program: Any) -> Callable[[str], str]:
    """What computes a tensor of a program, as a person says it."""
    makers = {n: op.type for op in program.global_block().ops for n in op.output_arg_names}
    return lambda name: makers.get(name, "the input")
