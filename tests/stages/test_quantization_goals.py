"""INT8 accuracy of real trained networks through the command, calibrated and trained on training images only.

python -m pytest -m slow tests/stages/test_quantization_goals.py
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from tests.command_line import picoquant, with_sets


@dataclass(frozen=True)
class Known:
    """A trained network, the images it is measured on, and what it must keep.

    Attributes:
        data: folder, training images and annotations, validation images and annotations.
        settings: of the run, besides data and weights.
        goals: least INT8 mAP by method.
    """

    weights: str
    data: tuple[str, str, str, str, str]
    settings: tuple[str, ...]
    goals: dict[str, float]


CELLS = Known(
    "picodet_s_npu_bccd.pdparams",
    ("bccd", "JPEGImages", "instances_train.json", "JPEGImages", "instances_val.json"),
    ("Global.input_size=[320,320]",),
    {"qat": 0.340, "ptq": 0.340},  # FP32: 0.3402
)
COCO = Known(
    "picodet_s_320_coco.pdparams",
    (
        "tiny_coco",
        *("train2017", "annotations/instances_train2017.json"),
        *("val2017", "annotations/instances_val2017.json"),
    ),
    ("Global.config=picodet_s_320_coco",),
    {"qat": 0.327, "ptq": 0.30},  # FP32: 0.331; min-max without equalisation: 0.001
)
TRAINING = ("TrainConfig.train_iter=60", "TrainConfig.eval_iter=30")


def quantized(folder, shared, known, method):
    """Metrics of the stage `quantize` with the shipped recipe."""
    place, *names = known.data
    keys = [
        f"{section}.{key}"
        for section in ("TrainDataset", "EvalDataset")
        for key in ("image_dir", "anno_path")
    ]
    sets = [
        f"Quantize.method={method}",
        f"Global.weights={shared}/weights/{known.weights}",
        *known.settings,
        *(f"{section}.dataset_dir={shared}/datasets/{place}" for section in ("TrainDataset", "EvalDataset")),
        *(f"{key}={name}" for key, name in zip(keys, names)),
        *(TRAINING if method == "qat" else ()),
    ]
    recipe = ["run", "--config", "picodet_s_qat_dis.yaml", "--until", "quantize", "--save-dir", folder]
    done = picoquant(*recipe, *with_sets(sets), timeout=3000)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "run.json").read_text())["stages"]["quantize"]["metrics"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ptq", "qat"])
@pytest.mark.parametrize("known", [CELLS, COCO], ids=["cells", "coco"])
def test_int8_keeps_the_accuracy(shared, tmp_path, known, method):
    metrics = quantized(tmp_path, shared, known, method)
    assert metrics["mAP"] >= known.goals[method]
    assert metrics["every_tensor_mAP"] >= known.goals[method]
