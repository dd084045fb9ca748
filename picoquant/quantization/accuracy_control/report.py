"""What stays in floating point and why: the record for `quantization.json` and the metrics, and the log."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

LOG = logging.getLogger("picoquant")

_NOT_MEASURED = "mAP not measured"


@dataclass(frozen=True)
class Trial:
    """A candidate that was evaluated.

    Attributes:
        layers: number of ranked layers in float.
        mAP: of the model that would be written, 0 to 1.
    """

    layers: int
    mAP: float  # noqa: N815  the key in the files


@dataclass(frozen=True)
class LayerInFloat:
    """What a layer in float costs, with those listed before it in float already.

    Attributes:
        layer: its name; names of several layers that share a weight, separated by commas.
        output: name of its result, likewise.
        alone_db: signal-to-noise in dB of the network's outputs with this layer alone in INT8; None: not measured.
        mAP_before, mAP_after: 0 to 1, without and with this layer in float; None: not measured.
        int8_runs: stretches of INT8 operators between the layers in float, in the program's order. Counted
            without Paddle Lite's opt, so these are not NPU pieces.
        npu_pieces: by NPU of the recipe, into how many pieces opt splits the model; empty without opt or NPU.
    """

    layer: str
    output: str
    alone_db: float | None
    mAP_before: float | None  # noqa: N815
    mAP_after: float | None  # noqa: N815
    int8_runs: int
    npu_pieces: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class MixedPrecision:
    """What stays in float, and why.

    Attributes:
        max_drop: mAP that INT8 may lose, 0 to 1; None where the user named the layers.
        fp32_mAP, int8_mAP: of the float model and of the model with all layers in INT8; None likewise.
        reached: whether the goal is reached; if no candidate reaches it, no layer stays in float.
        int8_runs, npu_pieces: with all layers in INT8, see `LayerInFloat`.
        layers: what stays in float, the most expensive in INT8 first.
        trials: every candidate that was evaluated.
    """

    max_drop: float | None = None
    fp32_mAP: float | None = None  # noqa: N815
    int8_mAP: float | None = None  # noqa: N815
    reached: bool = True
    int8_runs: int = 1
    npu_pieces: Mapping[str, int] = field(default_factory=dict)
    layers: tuple[LayerInFloat, ...] = ()
    trials: tuple[Trial, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """For `quantization.json` and the metrics."""
        values = asdict(self)
        values["trials"] = [[trial.layers, trial.mAP] for trial in self.trials]
        return values


def log_layers(mixed: MixedPrecision) -> None:
    """Log each layer in float and what it costs."""
    pieces, runs, known = mixed.npu_pieces, mixed.int8_runs, _NOT_MEASURED
    for row in mixed.layers:
        if row.mAP_before is not None and row.mAP_after is not None:
            known = f"mAP {row.mAP_before:.4f} -> {row.mAP_after:.4f}"
        split = ", ".join(
            f"{name}: NPU pieces {pieces.get(name)} -> {count}" for name, count in row.npu_pieces.items()
        )
        LOG.info(
            "quantize: %s stays in float: %s, %s",
            row.layer,
            known,
            split or f"runs of INT8 operators {runs} -> {row.int8_runs} (no opt or NPU: pieces not counted)",
        )
        pieces, runs, known = row.npu_pieces, row.int8_runs, _NOT_MEASURED
