"""`picoquant eval` with weights that their authors trained on COCO."""

from __future__ import annotations

import json

import pytest

from tests.command_line import picoquant, with_sets

# By an independent evaluation of the same weights (shared/weights/README.md): mAP, AP50, AP75.
EXPECTED = {"bicubic": (2, (0.331, 0.494, 0.356)), "bilinear": (1, (0.340, 0.494, 0.358))}


@pytest.mark.parametrize("resize", EXPECTED)
def test_trained_coco_weights_have_their_accuracy(resize, shared):
    interpolation, expected = EXPECTED[resize]
    sets = with_sets(
        [
            f"EvalDataset.dataset_dir={shared / 'datasets' / 'tiny_coco'}",
            f"EvalReader.sample_transforms.1.Resize.interp={interpolation}",
            "worker_num=0",
        ]
    )
    weights = shared / "weights" / "picodet_s_320_coco.pdparams"
    done = picoquant("eval", "--config", "picodet_s_320_coco", "--weights", weights, "--json", *sets)
    assert done.returncode == 0, done.stderr
    assert "50 images" in done.stderr
    found = json.loads(done.stdout)["backends"]["paddle_dygraph"]
    assert [found[name] for name in ("mAP", "AP50", "AP75")] == pytest.approx(expected, abs=0.002)
