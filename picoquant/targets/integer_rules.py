"""Rules of a target's integer arithmetic."""

from __future__ import annotations

from dataclasses import dataclass, replace

NUMBERS = ("uint8", "int8")
TFLITE = "tflite"
ROUNDINGS = ("half_to_even", "half_away", TFLITE)
MULTIPLIER_BITS = (15, 16, 31)
MULTIPLIER_ROUNDINGS = ("nearest", "truncate")
TABLE_POINTS = (None, 16)


@dataclass(frozen=True)
class MultiplierRule:
    """Section `arithmetic.multiplier` of a target's profile: the number that sums are multiplied by, and shifted.

    Attributes:
        bits: its width, from the first bit that is 1.
        rounding: how a factor is brought to these bits: to the `nearest`, or what follows is left off (`truncate`).
        of_values: whether it is that of everything; false: of convolutions with one scale a weight only, see
            `Rules.of_values`.
    """

    bits: int
    rounding: str = "nearest"
    of_values: bool = True


@dataclass(frozen=True)
class Arithmetic:
    """Section `arithmetic` of a target's profile.

    Attributes:
        numbers: integer type of a quantised tensor, `uint8` or `int8`.
        rounding: of halves: `half_to_even`, or `half_away` from zero. `tflite`: as TensorFlow Lite's reference kernels,
            which round a product and its shift each (a `multiplier` of 31 bits), sums and means in ways of their own;
            tensors have the scales of a `.tflite`.
        multiplier: the integer multiplier with which a sum is requantised, followed by a shift to the right; None
            if the multiplier is a float32.
        table_points: points that a table of a function of single values has for each power of two of the quantised
            input; between them a straight line is taken. ReLU6 is such a function, and an operator behind its
            convolution. None: a table has each quantised value, and ReLU6 is the convolution's own limit.
        sum_weights: where the sum of two tensors is a convolution, the weight of the one with the larger scale; the
            other's is rounded to a whole number. Tensors are summed so where both are computed in a network with one
            scale a weight and are none of its outputs (see `Rules.kept`). None: both scales are exact.
    """

    numbers: str
    rounding: str
    multiplier: MultiplierRule | None
    table_points: int | None = None
    sum_weights: int | None = None


@dataclass(frozen=True)
class Rules:
    """All rules that the simulation needs; scales and zero points are the network's.

    Attributes:
        arithmetic: see there.
    """

    arithmetic: Arithmetic

    @property
    def tflite(self) -> bool:
        """Whether TensorFlow Lite's kernels and scales are computed."""
        return self.arithmetic.rounding == TFLITE

    @property
    def kept(self) -> Rules:
        """The rules where every tensor is an output of the network: sums are no convolutions then."""
        return replace(self, arithmetic=replace(self.arithmetic, sum_weights=None))

    def on_shaders(self, per_channel: bool) -> bool:
        """Whether a network runs on shaders, INT8 tensors and float32, and not on the cores for convolutions.

        VeriSilicon's chips do so where weights have a scale for each channel (docs/simulation.md).
        """
        return per_channel and self.values_on_shaders

    @property
    def values_on_shaders(self) -> bool:
        """Whether shaders compute sums and products of two tensors, as on VeriSilicon's chips (docs/simulation.md)."""
        rule = self.arithmetic.multiplier
        return rule is not None and not rule.of_values

    @property
    def of_values(self) -> Rules:
        """The rules of sums, products, means and rescaling, and of convolutions with a scale for each channel.

        NPUs may compute these on other units than the cores for convolutions, with another precision: VeriSilicon's
        emulator gives what float32 gives (docs/simulation.md).
        """
        rule = self.arithmetic.multiplier
        if rule is None or rule.of_values:
            return self
        return replace(self, arithmetic=replace(self.arithmetic, multiplier=None))
