"""Readers: a data set and settings in, batches out, the same ones for any number of workers.

N is the number of images of a batch, G the largest number of objects among them.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from picoquant.data.dataset import Dataset
from picoquant.data.formats.repair import too_many
from picoquant.data.input_size import with_input_size
from picoquant.data.readers.batches import Batch, BatchMaker, Notes, Task
from picoquant.data.readers.pool import WorkerPool
from picoquant.data.readers.threads import in_threads
from picoquant.data.seeds import ORDER, generator
from picoquant.data.settings import ReaderSettings
from picoquant.errors import DataError

LOG = logging.getLogger("picoquant")

CACHE_BYTES = 512 << 20  # decoded training images kept, over all workers


class _Reader:
    """What the readers share: a maker of batches, and workers or none."""

    def __init__(self, dataset: Dataset, settings: ReaderSettings, maker: BatchMaker, workers: int) -> None:
        self.dataset, self.settings = dataset, settings
        self._maker = maker
        self._pool = WorkerPool(maker, workers) if workers else None
        self._unreadable: set[int] = set()
        self._mismatch_told = False

    def close(self) -> None:
        """End the workers. Going on reading starts new ones."""
        if self._pool is not None:
            self._pool.close()

    def __enter__(self):
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def _batches(self, tasks: Iterable[Task]) -> Iterator[dict[str, np.ndarray]]:
        yield from self._told(self._made(tasks))

    def _told(self, batches: Iterable[Batch]) -> Iterator[dict[str, np.ndarray]]:
        for batch in batches:
            self._tell(batch.notes)
            yield batch.arrays

    def _made(self, tasks: Iterable[Task]) -> Iterator[Batch]:
        return map(self._maker.make, tasks) if self._pool is None else self._pool.batches(tasks)

    def _tell(self, notes: Notes) -> None:
        """Name each unusable image once; stop when they are 1 % of the data set."""
        for index, reason in notes.unreadable.items():
            if index in self._unreadable:
                continue
            self._unreadable.add(index)
            count, total = len(self._unreadable), len(self.dataset)
            if too_many(count, total):
                raise DataError(
                    f"{reason} ({count} of {total} images of {self.dataset.section} so far; training "
                    "goes on without an image while that is under 1 %)"
                )
            LOG.warning("%s; going on without it", reason)
        if notes.mismatched and not self._mismatch_told:
            self._mismatch_told = True
            LOG.warning(
                "%s: its pixels count, so check that boxes fit (an EXIF orientation turns images); "
                "further images like it are not named",
                next(iter(notes.mismatched.values())),
            )


class TrainReader(_Reader):
    """Augmented batches of training images.

    A batch depends on seed, epoch and step only. An image that cannot be read is named in the log, and
    another one takes its place; at 1 % of the data set that ends with `DataError`.

    Args:
        dataset: the images.
        settings: transforms, batch size, shuffling. A batch larger than the data set is cut to it.
        seed: of order and augmentation.
        workers: processes that make batches; 0 makes them in this one.
        input_size: (height, width) of the network, which overrides what the transforms say.
        shard: (rank, world): this device's number, and how many devices share each step.
    """

    def __init__(
        self,
        dataset: Dataset,
        settings: ReaderSettings,
        seed: int,
        workers: int,
        input_size: tuple[int, int] | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> None:
        if input_size is not None:
            settings = with_input_size(settings, input_size)
        self._rank, self._world = shard
        self._seed = seed
        self._begun: tuple[tuple[int, int], Iterator[Batch]] | None = None
        cache = CACHE_BYTES // max(workers, 1)
        maker = BatchMaker(dataset, settings, seed, True, False, cache)
        super().__init__(dataset, settings, maker, workers)
        share = len(dataset) // self._world
        if share < 1:
            raise DataError(
                f"{dataset.section} has {len(dataset)} images, fewer than the {self._world} devices"
            )
        self.batch_size = min(settings.batch_size, share)
        if self.batch_size < settings.batch_size:
            LOG.warning(
                "%s.batch_size %d is more than the %d images of %s (for each device); using %d",
                settings.section,
                settings.batch_size,
                share,
                dataset.section,
                self.batch_size,
            )

    @property
    def steps_per_epoch(self) -> int:
        """Steps of every epoch, the same on every device."""
        together = self.batch_size * self._world
        whole, rest = divmod(len(self.dataset), together)
        return whole if self.settings.drop_last or not rest else whole + 1

    def epoch(self, epoch: int, start_step: int = 0) -> Iterator[dict[str, np.ndarray]]:
        """Batches of `epoch` (from 0) from `start_step` on.

        Yields: image [N, 3, H, W] float32, gt_bbox [N, G, 4] float32 input pixels, gt_class
        [N, G, 1] int32, pad_gt_mask [N, G, 1] float32, image_id [N] int64. G is at least 1.

        Raises: `DataError` naming the image; `PicoquantError` when a worker died.
        """
        begun, self._begun = self._begun, None
        if begun is not None and begun[0] == (epoch, start_step):
            return self._told(begun[1])
        return self._batches(self._tasks(epoch, start_step))

    def begin(self, epoch: int = 0, start_step: int = 0) -> None:
        """Let the workers start and make the first batches of an epoch, while something else is computed here.

        `epoch` yields them when it is asked for that epoch from that step on. Without workers nothing is done.
        """
        if self._pool is not None:
            self._begun = (epoch, start_step), self._pool.begin(self._tasks(epoch, start_step))

    def _tasks(self, epoch: int, start_step: int) -> Iterator[Task]:
        order = _order(len(self.dataset), self._seed, epoch, self.settings.shuffle)
        together = self.batch_size * self._world
        for step in range(start_step, self.steps_per_epoch):
            positions = np.arange(step * together, (step + 1) * together)
            if positions[-1] >= len(order):  # the last step: shared out evenly, wrapping round
                left = len(order) - positions[0]
                positions = positions[: -(-left // self._world) * self._world]
            mine = positions[self._rank :: self._world]
            indices = order[mine % len(order)]
            yield Task(epoch, step, tuple(indices.tolist()), tuple(mine.tolist()))


class EvalReader(_Reader):
    """Batches without augmentation, in the order of the data set, the last one smaller.

    An image that cannot be read ends the iteration with `DataError`. `endless` is for calibration and
    quantisation-aware training; it goes on as `TrainReader` does.

    Args:
        dataset: the images.
        settings: transforms and batch size; shuffle and drop_last are not looked at.
        workers: threads that make the batches of an iteration, as starting processes costs more than a small
            data set takes; processes that make those of `endless`. 0 makes them in the caller's thread.
        input_size: (height, width) of the network, which overrides what the transforms say.
    """

    def __init__(
        self,
        dataset: Dataset,
        settings: ReaderSettings,
        workers: int,
        input_size: tuple[int, int] | None = None,
    ) -> None:
        if input_size is not None:
            settings = with_input_size(settings, input_size)
        maker = BatchMaker(dataset, settings, 0, targets=False, strict=True)
        super().__init__(dataset, settings, maker, workers=0)
        self._workers = workers

    def _made(self, tasks: Iterable[Task]) -> Iterator[Batch]:
        return in_threads(self._maker.make, tasks, self._workers)

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self.dataset) // self.settings.batch_size)

    def __iter__(self) -> Iterator[dict[str, np.ndarray]]:
        """Yields: image [N, 3, H, W] float32, scale_factor [N, 2] float32 (y, x), im_shape [N, 2]
        float32 (height, width), image_id [N] int64; pad_offset [N, 2] float32 (rows above, columns left of the
        images) where there is padding."""
        size, total = self.settings.batch_size, len(self.dataset)
        return self._batches(
            _task(0, step, range(step * size, min((step + 1) * size, total))) for step in range(len(self))
        )

    def endless(
        self,
        seed: int,
        start_step: int = 0,
        shard: tuple[int, int] = (0, 1),
        shuffle: bool = True,
        turns: tuple[int, int] = (0, 1),
    ) -> Iterator[dict[str, np.ndarray]]:
        """Full batches without end, in an order drawn anew for each round through the data set.

        Args:
            seed: of the order.
            start_step: the first batch's number.
            shard: (rank, world): this device's number, and how many devices share each step. A step's
                images over all devices are those of one device with `world` times the batch size.
            shuffle: false: the data set's order, in every round.
            turns: (rank, world): of these batches the first, but for `rank` of them, and every `world`-th from there.

        Yields: as iterating does. A batch depends on seed, step and shard only.

        Raises: `DataError` when there are fewer images than devices.
        """
        size, per_round = endless_sizes(self.dataset, self.settings.batch_size, shard[1])
        maker = BatchMaker(self.dataset, self.settings, seed, targets=False, strict=False)
        reader = _Reader(self.dataset, self.settings, maker, self._workers)
        try:
            tasks = self._endless_tasks(seed, start_step, size, per_round, shard, shuffle)
            yield from reader._batches(itertools.islice(tasks, turns[0], None, turns[1]))
        finally:
            reader.close()

    def endless_names(self, seed: int, batches: int, shuffle: bool = True) -> list[str]:
        """File names of the images in the first batches of `endless`, on one device."""
        size, per_round = endless_sizes(self.dataset, self.settings.batch_size, 1)
        tasks = itertools.islice(self._endless_tasks(seed, 0, size, per_round, (0, 1), shuffle), batches)
        return [Path(self.dataset.records[index].path).name for task in tasks for index in task.indices]

    def _endless_tasks(
        self, seed: int, step: int, size: int, per_round: int, shard: tuple[int, int], shuffle: bool
    ) -> Iterator[Task]:
        rank, world = shard
        together = size * world
        while True:
            order = _order(len(self.dataset), seed, step // per_round, shuffle)
            for part in range(step % per_round, per_round):
                indices = order[part * together : (part + 1) * together][rank::world]
                yield _task(step // per_round, part, indices.tolist())
                step += 1


def endless_sizes(dataset: Dataset, batch_size: int, world: int) -> tuple[int, int]:
    """What `EvalReader.endless` makes of a batch size: images of a batch, and batches of a round on each device.

    Args:
        dataset: the images.
        batch_size: as asked for; more than a device's share of the data set is cut to it.
        world: how many devices share each step.

    Raises: `DataError` when there are fewer images than devices.
    """
    share = len(dataset) // world
    if share < 1:
        raise DataError(f"{dataset.section} has {len(dataset)} images, fewer than the {world} devices")
    size = min(batch_size, share)
    return size, len(dataset) // (size * world)


def _task(epoch: int, step: int, indices: Iterable[int]) -> Task:
    indices = tuple(indices)
    return Task(epoch, step, indices, indices)


def _order(count: int, seed: int, epoch: int, shuffle: bool) -> np.ndarray:
    """[count] indices in the order of an epoch."""
    return generator(seed, ORDER, epoch).permutation(count) if shuffle else np.arange(count)
