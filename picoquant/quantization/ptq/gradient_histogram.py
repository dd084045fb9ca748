"""What errors of a tensor's values cost, by value: sums of gradients in bins."""

from __future__ import annotations

import numpy as np

from picoquant.quantization.ptq.histograms import bins_of, chunks

BINS = 512  # to each side of 0


class GradientHistogram:
    """Gradients of a probe of the detections' error (`DetectionError.probe`), summed by a tensor's value.

    An error `e` of the values in each bin changes an image's probe by `sums @ e`, whose mean square over images is what
    it costs. Where the values of a bin are off independently of one another, by `v` in the mean square, that is
    `squares @ v`. Values of 0 are left out: they have no error, whatever the range.

    Args:
        bound: the largest value that matters; what is beyond counts as it.

    Attributes:
        images: how many were added.
        sums: `[images, 2 * BINS]`.
        squares: `[2 * BINS]`, the mean over images.
        centres: `[2 * BINS]`, the values in the middles of the bins.
    """

    def __init__(self, bound: float) -> None:
        self._bound = bound
        self.sums = np.zeros((0, 2 * BINS))
        self._squares = np.zeros(2 * BINS)
        self.centres = (np.arange(-BINS, BINS) + 0.5) * (bound / BINS)

    def add(self, values: np.ndarray, gradients: np.ndarray) -> None:
        """Add images.

        Args:
            values: of the tensor, `[images, …]` float32.
            gradients: of the same shape: of what an error is measured behind, the tensor or its activation.
        """
        self.merge(self.measure(values, gradients))

    def measure(self, values: np.ndarray, gradients: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """What `merge` takes of images; arguments as of `add`. Others may be measured at the same time."""
        return [self._of_image(*(one.reshape(-1) for one in both)) for both in zip(values, gradients)]

    def merge(self, measured: list[tuple[np.ndarray, np.ndarray]]) -> None:
        """Add images that were measured."""
        self.sums = np.concatenate([self.sums, [sums for sums, _ in measured]])
        for _, squares in measured:
            self._squares += squares

    def _of_image(self, values: np.ndarray, gradients: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sums, squares = np.zeros(2 * BINS), np.zeros(2 * BINS)
        for some, of_some in chunks(values, gradients):
            bins = bins_of(some, self._bound, BINS)
            weights = (of_some * (some != 0)).astype(np.float64)
            sums += np.bincount(bins, weights, 2 * BINS)
            np.square(weights, out=weights)
            squares += np.bincount(bins, weights, 2 * BINS)
        return sums, squares

    @property
    def images(self) -> int:
        """How many were added."""
        return len(self.sums)

    @property
    def squares(self) -> np.ndarray:
        return self._squares / len(self.sums)
