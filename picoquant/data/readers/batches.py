"""Make one batch from what it is to hold. Runs in a worker or in the reader's own process.

N is the number of images of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from picoquant.data.dataset import Dataset
from picoquant.data.images import UnreadableImageError
from picoquant.data.seeds import BATCH, SAMPLE, generator
from picoquant.data.settings import ReaderSettings
from picoquant.data.transforms.decode import Decode, sample_of
from picoquant.data.transforms.mix import Cutmix, Mixup
from picoquant.data.transforms.mosaic import Mosaic
from picoquant.data.transforms.pad import pad_ground_truth
from picoquant.data.transforms.sample import Sample
from picoquant.errors import ConfigError, DataError, PicoquantError

_OF_SEVERAL = (Mosaic, Mixup, Cutmix)
_OF_STEP = 0  # a step has one such generator
_TRIES = 20  # images drawn in place of an unreadable one before giving up


@dataclass(frozen=True)
class Task:
    """What a batch is to hold: records `indices`, at `positions` of the order of `epoch`."""

    epoch: int
    step: int
    indices: tuple[int, ...]
    positions: tuple[int, ...]


@dataclass
class Notes:
    """What there is to tell about images, by record index: why one could not be used, and in what
    one differs from its annotation."""

    unreadable: dict[int, str] = field(default_factory=dict)
    mismatched: dict[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Batch:
    """Arrays by name, and what to tell about their images."""

    arrays: dict[str, np.ndarray]
    notes: Notes


class BatchMaker:
    """Decodes, transforms and collates.

    A batch depends on the seed and its task only, so any worker makes the same one, and the parts of a step that
    several devices make are resized alike, as they would be in one.

    Args:
        dataset: the images.
        settings: the transforms.
        seed: of all that is random.
        targets: whether batches hold objects (training) or scales (evaluation).
        strict: whether an unreadable image is an error; otherwise another one takes its place.
        cache_bytes: decoded images kept in memory, per process.
    """

    def __init__(
        self,
        dataset: Dataset,
        settings: ReaderSettings,
        seed: int,
        targets: bool,
        strict: bool,
        cache_bytes: int = 0,
    ) -> None:
        self._dataset, self._settings, self._seed = dataset, settings, seed
        self._targets, self._strict = targets, strict
        self._schedule = settings.schedule
        self._cache_bytes = cache_bytes
        self._prepare()

    def __getstate__(self) -> dict:
        state = dict(self.__dict__)
        for name in ("_cache", "_decode", "_transforms", "_batch_transforms"):
            state.pop(name)
        return state

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._prepare()

    def _prepare(self) -> None:
        transforms, self._batch_transforms = self._settings.build()
        self._decode: Decode = transforms[0]
        self._transforms = transforms[1:]
        self._cache = _ImageCache(self._cache_bytes)

    def make(self, task: Task) -> Batch:
        """Make the batch of a task.

        Raises: `DataError` naming the image that a transform failed on, or that cannot be read.
        """
        notes = Notes()
        samples = [
            self._sample(index, position, task.epoch, notes)
            for index, position in zip(task.indices, task.positions)
        ]
        rng = generator(self._seed, BATCH, task.epoch, task.step, _OF_STEP)
        for transform in self._now(self._batch_transforms, task.epoch):
            try:
                samples = transform(samples, rng)
            except Exception as error:
                raise _failed(transform, samples[0].path, error) from error
        return Batch(self._collate(samples), notes)

    def _now(self, transforms: list[Any], epoch: int) -> list[Any]:
        """Those that work in an epoch."""
        if not self._schedule:
            return transforms
        off = {
            name
            for name, start, stop in self._schedule
            if epoch < start or (stop is not None and epoch >= stop)
        }
        return [each for each in transforms if _name(each) not in off]

    def _sample(self, index: int, position: int, epoch: int, notes: Notes) -> Sample:
        rng = generator(self._seed, SAMPLE, epoch, position)
        working = self._settings.working(epoch)
        before = []
        sample = self._read(index, rng, notes)
        path = sample.path

        def another() -> Sample:
            other = self._read(int(rng.integers(len(self._dataset))), rng, notes)
            for transform in before:
                if not isinstance(transform, _OF_SEVERAL):
                    other = transform(other, rng)
            return other

        for transform in self._now(self._transforms, epoch):
            try:
                if not isinstance(transform, _OF_SEVERAL):
                    sample = transform(sample, rng)
                elif type(transform).__name__ == working:
                    sample = transform(sample, rng, another)
            except Exception as error:
                raise _failed(transform, path, error) from error
            before.append(transform)
        return sample

    def _read(self, index: int, rng: np.random.Generator, notes: Notes) -> Sample:
        """Decode image `index`, or, unless strict, one drawn in the place of an unreadable one."""
        for _ in range(_TRIES):
            record = self._dataset.records[index]
            image = self._cache.get(index)
            if image is not None:
                return sample_of(record, image)
            try:
                sample = self._decode(record)
            except UnreadableImageError as error:
                if self._strict:
                    raise
                notes.unreadable[index] = str(error)
                index = int(rng.integers(len(self._dataset)))
                continue
            self._cache.put(index, sample.image)
            height, width = sample.image.shape[:2]
            if record.width and (record.width, record.height) != (width, height):
                notes.mismatched[index] = (
                    f"image {record.path} is {width}x{height}, but annotated as "
                    f"{record.width}x{record.height}"
                )
            return sample
        first = next(iter(notes.unreadable.values()))
        raise DataError(f"{first}; no image drawn in its place, {_TRIES} times, could be read either")

    def _collate(self, samples: list[Sample]) -> dict[str, np.ndarray]:
        shapes = {sample.image.shape for sample in samples}
        where = self._settings.section
        if any(len(shape) != 3 or shape[0] != 3 for shape in shapes):
            raise ConfigError(f"{where} needs Permute among its transforms (channels come first)")
        if len(shapes) > 1:
            raise ConfigError(
                f"{where}: images of one batch differ in size; add a Resize or BatchRandomResize "
                "with keep_ratio: false, Pad or PadBatch"
            )
        arrays = {"image": np.stack([sample.image for sample in samples]).astype(np.float32, copy=False)}
        if self._targets:
            arrays.update(pad_ground_truth(samples))
        else:
            arrays["scale_factor"] = np.array([s.scale_factor for s in samples], np.float32)
            arrays["im_shape"] = np.array([s.im_shape for s in samples], np.float32)
            if any(any(sample.pad_offset) for sample in samples):
                arrays["pad_offset"] = np.array([s.pad_offset for s in samples], np.float32)
        arrays["image_id"] = np.array([sample.image_id for sample in samples], np.int64)
        return arrays


class _ImageCache:
    """Decoded images, as many as fit; order of reading is random, so nothing is ever replaced."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._images: dict[int, np.ndarray] = {}

    def get(self, index: int) -> np.ndarray | None:
        return self._images.get(index)

    def put(self, index: int, image: np.ndarray) -> None:
        if image.nbytes <= self._room:
            self._room -= image.nbytes
            self._images[index] = image


def _name(transform: object) -> str:
    return type(getattr(transform, "transform", transform)).__name__


def _failed(transform: object, path: str, error: Exception) -> PicoquantError:
    """`error` as it is when it is one of ours, else one that names transform and image."""
    if isinstance(error, PicoquantError):
        return error
    return DataError(f"{_name(transform)} failed on image {path}: {type(error).__name__}: {error}")
