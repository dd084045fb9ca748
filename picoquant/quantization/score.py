"""How well a model detects, as quantisation is told."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Score:
    """What an evaluation found.

    Attributes:
        mAP: 0 to 1; below 0 where there is no annotated object.
        fidelity: how well it finds again what the FP32 model detects (`evaluation/fidelity.py`), 0 to 1; None: not
            measured.
    """

    mAP: float  # noqa: N815  as COCO calls it
    fidelity: float | None = None

    @property
    def worth(self) -> float:
        """What the best of several states has most of.

        Fidelity moves far less by chance, mAP alone knows the objects that FP32 misses: it is their geometric mean, so
        that a hundredth more of either counts the same.
        """
        if self.fidelity is None:
            return self.mAP
        return self.fidelity if self.mAP < 0 else math.sqrt(self.mAP * self.fidelity)

    def __str__(self) -> str:
        return f"{self.mAP:.4f}" + ("" if self.fidelity is None else f", fidelity {self.fidelity:.4f}")
