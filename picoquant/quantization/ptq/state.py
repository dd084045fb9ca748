"""What the passes of post-training quantisation hand to one another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from picoquant.int8.build import Int8Source
from picoquant.int8.operators import QuantizableOperator
from picoquant.int8.passes.activations import TargetTensors
from picoquant.int8.passes.tie_avoidance import Product, Table
from picoquant.int8.quant_params import QuantParams
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.quantization.context import QuantizationContext
from picoquant.quantization.ptq.gradient_histogram import GradientHistogram
from picoquant.quantization.ptq.histograms import Histogram


@dataclass(frozen=True)
class Statistics:
    """What the calibration images showed of a network's activations.

    Attributes:
        histograms: of each activation that is held in INT8.
        channel_means: of each quantised operator's input, `[C]` float64.
        fused_absmax: of each tensor inside a fused convolution.
        gradients: what errors cost, of each activation where it is known.
    """

    histograms: Mapping[str, Histogram]
    channel_means: Mapping[str, np.ndarray]
    fused_absmax: Mapping[str, float]
    gradients: Mapping[str, GradientHistogram] = field(default_factory=dict)


@dataclass(frozen=True)
class PtqState:
    """A network on its way to INT8.

    A pass returns a new state; one that changes weights or operators changes `model` in place.

    Attributes:
        context: of the quantisation.
        model: the float network.
        quant: section `QuantAware`, to which the ignored layers are added.
        folded: number of batch-norms that were folded.
        settled: number of input channels whose weights were taken out because they never change.
        equalised: the tensors whose channels were equalised.
        weight_scales: what equalisation multiplied each stored variable by, broadcasting to its shape.
        images: number of images that the ranges come from.
        operators: what runs in INT8, in the network's order.
        tensors: the activations that are held in INT8, in groups that share a scale.
        products: products, means and functions of activations, whose results may lie on a tie.
        statistics: of the calibration images; None: not measured.
        ranges: by tensor, the value of 127 steps: the absmax that INT8 represents where it is symmetric.
        zero_points: of the tensors that are not symmetric, signed.
        learned: tensors whose range training has found; a group that has any takes theirs.
        weights: values that replace the stored ones, by variable: those that training has found.
        float_params: weights and biases that were changed for INT8, by variable, as they were before.
    """

    context: QuantizationContext
    model: ProgramModel
    quant: QuantAwareSettings
    folded: int = 0
    settled: int = 0
    equalised: tuple[str, ...] = ()
    weight_scales: Mapping[str, np.ndarray] = field(default_factory=dict)
    images: int = 0
    operators: tuple[QuantizableOperator, ...] = ()
    tensors: TargetTensors = TargetTensors((), (), {})
    products: tuple[Product | Table, ...] = ()
    statistics: Statistics | None = None
    ranges: Mapping[str, float] = field(default_factory=dict)
    zero_points: Mapping[str, int] = field(default_factory=dict)
    learned: frozenset[str] = frozenset()
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)
    float_params: Mapping[str, np.ndarray] = field(default_factory=dict)

    def params(self, name: str) -> QuantParams:
        """The quantisation of a tensor that has a range."""
        return self.int8_source().params(name)

    def int8_source(self) -> Int8Source:
        """What the INT8 model is written from; the float network must have been saved in the student's folder."""
        folder = self.context.paths.student
        return Int8Source(
            folder, self.weights, self.ranges, self.operators, self.quant, zero_points=self.zero_points
        )
