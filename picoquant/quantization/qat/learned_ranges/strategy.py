"""The interface of a way to find activation ranges while a network trains, and the choice between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from picoquant.int8.operators import QuantizableOperator
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.static.programs import Inserter
from picoquant.quantization.fake_quant import QuantiserPorts

# A parameter of a static program and its gradient, both variables.
ParameterGradient = tuple[Any, Any]


class RangeStrategy(Protocol):
    """How the range (absmax) of each quantised activation is found during training.

    Used in this order: `insert` while the forward pass is quantised, `is_parameter` to keep range parameters from
    the weights' optimiser, `add_gradients` after the backward pass, `optimizer` for the update, `initialise` with
    the calibrated ranges before the first step.
    """

    def insert(
        self, inserter: Inserter, scope: Any, source: Any, settings: QuantAwareSettings
    ) -> QuantiserPorts:
        """Add what finds one activation's range, see `fake_quant.ActivationRange`."""

    def is_parameter(self, name: str) -> bool:
        """Whether a parameter of the program is a range of this strategy, not a weight."""

    def add_gradients(
        self, program: Any, operators: Sequence[QuantizableOperator], bits: int
    ) -> list[ParameterGradient]:
        """Replace the quantisers' straight-through gradients by those of learned ranges.

        Args:
            program: with its backward pass, without an optimiser; changed in place.
            operators: the quantised operators.
            bits: of activations.

        Returns: each range parameter with its gradient; empty where ranges are not learned.
        """

    def optimizer(self) -> Any | None:
        """The ranges' own optimiser; None: the weights' optimiser updates them."""

    def initialise(self, scope: Any, name: str, absmax: float, moving_rate: float) -> None:
        """Start one activation's range from its calibrated absmax.

        Args:
            scope: of the training program.
            name: of the activation.
            absmax: largest absolute value that INT8 represents, above 0.
            moving_rate: decay of moving averages, 0 to 1.
        """
