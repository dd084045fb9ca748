"""The interface of a way to find activation ranges while a network trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from picoquant.int8.scheme import QuantAwareSettings


class ActivationRange(Protocol):
    """The range of one activation; rounds the activation by it.

    Attributes:
        stored: the tensors that training continues from, by name; the absmax is `<activation>@scale`.
        learned: the parameters that the loss changes; empty where the range is not learned.
    """

    stored: Mapping[str, Any]
    learned: Sequence[Any]

    def __call__(self, value: Any, following: bool) -> Any:
        """Round a tensor to quantised values; gradients pass.

        Args:
            value: the activation, the batch first.
            following: whether a range that follows the data moves.
        """

    def initialise(self, absmax: float) -> None:
        """Start from the calibrated absmax, above 0."""


class RangeStrategy(Protocol):
    """How the range (absmax) of each quantised activation is found during training."""

    @property
    def traceable(self) -> bool:
        """Whether ranges round in graphs that are traced, too, with their tensors in `stored` alone."""

    def range_of(
        self, name: str, settings: QuantAwareSettings, non_negative: bool, shape: Sequence[int]
    ) -> ActivationRange:
        """The range of one activation.

        Args:
            name: of the activation.
            settings: number of bits and decay of moving averages.
            non_negative: whether its operator's results are never below 0.
            shape: of the activation, -1 where it varies.
        """

    def optimizer(self, parameters: Sequence[Any]) -> Any | None:
        """The ranges' own optimiser; None: the weights' optimiser updates them."""
