"""Calibration images: read once, kept in files, used several times. Memory holds one batch."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.errors import DataError
from picoquant.paddle_program.graph import Graph

LOG = logging.getLogger("picoquant")

_FEW = 16  # with fewer images the ranges depend on which ones they are

Feed = dict[str, np.ndarray]  # arrays by input name, the batch first


class CalibrationImages:
    """Batches that can be iterated again and again, always the same; read when they are first needed.

    Args:
        source: opens the batches; called once at most.
        count: how many batches to take.
        folder: receives the files; its owner removes it.
        names: of the images, in their order, for messages.
        turns: (rank, world): `source` has the batches number `rank`, `rank` + `world` … of all.

    Every use raises `DataError` when there is no image.
    """

    def __init__(
        self,
        source: Callable[[], Iterable[Feed]],
        count: int,
        folder: Path,
        names: Sequence[str] = (),
        turns: tuple[int, int] = (0, 1),
    ) -> None:
        self._source, self._count, self._folder, self._names = source, count, folder, names
        self._turns, self._batch = turns, 1
        self._files: list[Path] = []
        self._images = 0

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._read())

    def __iter__(self) -> Iterator[Feed]:
        """The batches."""
        return self.of_turn(1)

    def of_turn(self, world: int) -> Iterator[Feed]:
        """The batches number 0, `world` … of these."""
        for file in self._read()[::world]:
            with np.load(file) as arrays:
                yield dict(arrays)

    @property
    def images(self) -> int:
        """Number of images."""
        self._read()
        return self._images

    def label(self, number: int) -> str:
        """An image of these (counted from 1) as messages name it."""
        rank, world = self._turns
        batch, place = divmod(number - 1, self._batch)
        number = (batch * world + rank) * self._batch + place + 1
        name = f", {self._names[number - 1]}," if number <= len(self._names) else ""
        return f"calibration image {number}{name} (in the order of Calibration)"

    def label_of_turn(self, number: int, world: int) -> str:
        """An image (counted from 1) of `of_turn` as messages name it."""
        batch, place = divmod(number - 1, self._batch)
        return self.label(batch * world * self._batch + place + 1)

    def _read(self) -> list[Path]:
        """The files, one a batch, written at the first call."""
        if self._files:
            return self._files
        source = self._source()
        try:
            self._write(itertools.islice(source, self._count))
        finally:
            close_batches(source)
        if not self._files:
            raise DataError("there is no image to calibrate on: Calibration says which are used")
        if self._images < _FEW and self._turns[1] == 1:
            LOG.warning(
                "quantize: calibrated on %d image%s only: ranges that other images need may be cut off; "
                "Calibration.count sets how many",
                self._images,
                "" if self._images == 1 else "s",
            )
        return self._files

    def _write(self, batches: Iterable[Feed]) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        files, images = [], 0
        for number, batch in enumerate(batches):
            files.append(self._folder / f"{number}.npz")
            np.savez(files[-1], **batch)
            images += len(next(iter(batch.values())))
            self._batch = self._batch if number else images
        self._files, self._images = files, images


class OfTurn:
    """Some of the calibration images: the batches number 0, `world` … of all.

    Args:
        images: all of them.
        world: how many processes share them.
    """

    def __init__(self, images: CalibrationImages, world: int) -> None:
        self._images, self._world = images, world

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self._images) // self._world)

    def __iter__(self) -> Iterator[Feed]:
        """The batches."""
        return self._images.of_turn(self._world)

    def label(self, number: int) -> str:
        """An image of these (counted from 1) as messages name it."""
        return self._images.label_of_turn(number, self._world)


def close_batches(source: Any) -> None:
    """End a generator now, so that what it holds (worker processes) is freed."""
    if hasattr(source, "close"):
        source.close()


def watch(
    images: CalibrationImages | OfTurn,
    run: Callable[[Feed], Sequence[np.ndarray]],
    names: Sequence[str],
    makers: Callable[[str], str],
    shown: Callable[[int], None],
    cut: Callable[[Feed], Iterable[Feed]] = lambda batch: (batch,),
) -> Iterator[tuple[str, np.ndarray]]:
    """Run a network over the images and yield each tensor of each batch with its name.

    Args:
        images: the network's input.
        run: returns the tensors of a part of a batch, in the order of `names`.
        names: of the tensors.
        makers: names the operator type that computes a tensor, for messages.
        shown: called with the number of batches that are done.
        cut: gives the parts of a batch that are run at once.

    Raises: `DataError` naming the first tensor that is not finite, its layer and the image.
    """
    before = 0
    for done, whole in enumerate(images, start=1):
        for batch in cut(whole):
            size = len(next(iter(batch.values())))
            for name, value in zip(names, run(batch)):
                require_finite(images, name, value, makers, before, size)
                yield name, value
            before += size
        shown(done)


def require_finite(
    images: CalibrationImages,
    name: str,
    value: np.ndarray,
    makers: Callable[[str], str],
    before: int,
    count: int,
) -> None:
    """Refuse a tensor of some images that is not finite.

    Args:
        images: of the calibration.
        name, value: of the tensor.
        makers: see `watch`.
        before: how many images came before these.
        count: how many these are.

    Raises: `DataError` naming the tensor, its layer and the image.
    """
    if is_finite(value):
        return
    rows = ~np.isfinite(value.reshape(len(value), -1)).all(1) if len(value) == count else [True]
    number = before + int(np.argmax(rows)) + 1
    raise DataError(
        f"activation {name} of {makers(name)} is not finite for {images.label(number)}: check the "
        "model's weights and that the images are prepared as infer_cfg.yml says"
    )


def is_finite(values: np.ndarray) -> bool:
    """Whether all numbers of an array are finite."""
    # A sum that is finite has no other part, and takes a third of the time.
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(values.sum()) or np.isfinite(values).all())


def maker_of(graph: Graph) -> Callable[[str], str]:
    """A function from a tensor's name to the type of the operator that computes it, for messages."""
    makers = {name: op.op_type for op in graph.operators for _, name in op.outputs}
    return lambda name: makers.get(name, "the input")
