"""What training does otherwise from an epoch on is known of every shipped detector, of both heads."""

from __future__ import annotations

import pytest

from picoquant.stages.plan import load_plan
from picoquant.stages.train import _from_an_epoch_on


@pytest.mark.parametrize("config, assigner", [
    ("picodet_s_416_coco_npu.yml", 100),
    ("legacy_model/picodet_s_320_coco.yml", None),
    ("legacy_2021_08/picodet_m_mbv3_320_coco.yml", None),
    ("legacy_2021_08/picodet_s_shufflenetv2_320_coco.yml", None),
])  # fmt: skip
def test_the_older_head_has_one_assigner(config, assigner):
    """Its trainings were refused once, for want of a key that only the 2022 head has."""
    assert _from_an_epoch_on(load_plan(config)).get("static_assigner_epoch") == assigner
