"""How states are compared."""

from __future__ import annotations

import pytest

from picoquant.quantization.score import Score


def test_a_hundredth_more_of_either_counts_the_same():
    start = Score(0.25, 0.8)
    assert start.worth == pytest.approx((0.25 * 0.8) ** 0.5)
    assert Score(0.2525, 0.8).worth == pytest.approx(Score(0.25, 0.808).worth)
    assert Score(0.2525, 0.79).worth < start.worth < Score(0.2475, 0.81).worth


def test_what_is_not_known_does_not_count():
    assert Score(0.25).worth == 0.25
    assert Score(-1.0, 0.8).worth == 0.8  # COCO's mAP without an object


def test_text():
    assert (str(Score(0.25)), str(Score(0.25, 0.8))) == ("0.2500", "0.2500, fidelity 0.8000")
