"""The time that cycles may stand for: cycles of networks with published times, and the frequency that fits them.

Nobody has measured it. Cycles are those of the vendor's model of its chip, published times are Paddle Lite's, of older
drivers; how far the two are apart is said with each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import geometric_mean
from typing import Any

from picoquant.npu.cost import PUBLISHED

# Cycles of the published networks, one scale a tensor, in the emulator of acuitylite 6.57.1, by its name of the chip:
# results/cycles_*.yaml, which `benchmarks/published_cycles.py` writes.
_CYCLES = {
    "VIPNANOQI_PID0X88": (6_099_583, 7_931_177, 22_021_727, 95_416_359, 18_307_988),
    "VIPPICO_V3_PID0X99": (7_573_275, 8_634_093, 33_849_833, 90_172_686, 17_583_880),
    "VIPNANOQI_PID0XA1": (5_516_067, 7_043_575, 22_383_400, 122_478_196, 19_450_094),
    "VIP8000NANOSI_PLUS_PID0X9F": (7_184_411, 6_033_754, 41_819_219, 118_972_453, 15_197_134),
}
_NETWORKS = (
    "mobilenet_v1_int8_224",
    "mobilenet_v2_int8_224",
    "resnet50_int8_224",
    "yolov5s_int8_640",
    "picodet_relu6_int8_416",
)


@dataclass(frozen=True)
class Time:
    """A time made of cycles, not a measured one.

    Attributes:
        milliseconds: of one image.
        mhz: cycles a microsecond of the published networks that have one scale a weight, their geometric mean.
        errors: of each published network, when its time is made of its cycles so: estimated / published - 1.
    """

    milliseconds: float
    mhz: float
    errors: Mapping[str, float]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Time:
        """What `to_json` wrote.

        Raises: `KeyError`, `TypeError` or `ValueError` when it is something else.
        """
        errors = {str(name): float(error) for name, error in dict(values["errors"]).items()}
        return cls(float(values["milliseconds"]), float(values["mhz"]), errors)

    def to_text(self) -> str:
        """One line."""
        fitted = ", ".join(f"{name} {error:+.0%}" for name, error in self.errors.items() if _fits(name))
        others = ", ".join(f"{name} {error:+.0%}" for name, error in self.errors.items() if not _fits(name))
        text = f"{self.milliseconds:.3g} ms, not measured: {self.mhz:.0f} MHz fit the published times best ({fitted})"
        return f"{text}; published with a scale for each channel: {others}" if others else text

    def to_json(self) -> dict[str, Any]:
        """As JSON values, rounded."""
        errors = {name: round(error, 3) for name, error in self.errors.items()}
        return {"milliseconds": round(self.milliseconds, 3), "mhz": round(self.mhz, 1), "errors": errors}


def time_of(cycles: int, chip: str, latencies: Mapping[str, Mapping[str, Any]]) -> Time | None:
    """The time of an image.

    Args:
        cycles: of a network with one scale a weight; of others, which run on shaders, they are a bound from below.
        chip: the emulator's name of it.
        latencies: `Target.latency_ms`.

    Returns: None for a chip whose cycles of published networks are not known, or without published times.
    """
    known = dict(zip(_NETWORKS, _CYCLES.get(chip, ())))
    published = {name: latencies.get(name, {}).get("npu") for name in known}
    rates = {name: known[name] / milliseconds for name, milliseconds in published.items() if milliseconds}
    fitted = [rate for name, rate in rates.items() if _fits(name)]
    if not fitted:
        return None
    rate = geometric_mean(fitted)  # cycles a millisecond
    return Time(cycles / rate, rate / 1e3, {name: own / rate - 1 for name, own in rates.items()})


def _fits(name: str) -> bool:
    return PUBLISHED[name].weights == "per_tensor"
