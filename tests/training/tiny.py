"""A real training, but small: generated images, the NPU network at 64 pixels, a few steps.

As a script, `tiny.py FOLDER {"key": value}` trains with these changes of the settings.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import picoquant  # isort: skip  (zlib before paddle)
import paddle

from picoquant.backends.paddle.runtime import dygraph_predictor
from picoquant.data.formats.load import load_dataset
from picoquant.data.formats.synthetic import SyntheticSet, write_synthetic
from picoquant.data.readers.reader import EvalReader, TrainReader
from picoquant.data.settings import ReaderSettings
from picoquant.evaluation.evaluate import evaluate
from picoquant.postprocess import Decoder
from picoquant.postprocess.settings import NmsSettings
from picoquant.training.loop import train
from picoquant.training.result import TrainResult
from picoquant.training.scalar_log import ScalarSettings
from picoquant.training.settings import (
    CosineDecay,
    EmaSettings,
    LearningRate,
    LinearWarmup,
    TrainSettings,
)
from picoquant.training.state import Masks

CONFIG = "picodet_s_416_coco_npu.yml"
STEPS_PER_EPOCH = 3
CLOSING = [{"NormalizeImage": {"mean": [0, 0, 0], "std": [1, 1, 1]}}, {"Permute": {}}]
TRAIN_READER = {
    "sample_transforms": [{"Decode": {}}, {"RandomFlip": {"prob": 0.5}}],
    "batch_transforms": [
        {"BatchRandomResize": {"target_size": [64, 96], "keep_ratio": False, "random_interp": True}},
        *CLOSING,
        {"PadGT": {}},
    ],
    "batch_size": 2,
    "shuffle": True,
    "drop_last": True,
}
EVAL_READER = {
    "sample_transforms": [
        {"Decode": {}},
        {"Resize": {"target_size": [64, 64], "keep_ratio": False, "interp": 2}},
        *CLOSING,
    ],
    "batch_size": 2,
}


def settings(**changes: Any) -> TrainSettings:
    rate = changes.pop("base_lr", 0.01)
    schedule = LearningRate(rate, (CosineDecay(max_epochs=3), LinearWarmup(steps=4)))
    values = {
        "epochs": 3,
        "learning_rate": schedule,
        "ema": EmaSettings(cycle_epoch=2),
        "seed": 3,
        "log_iter": 1,
        "fast_convolutions": False,
    }
    return TrainSettings(**{**values, **changes})


def run(
    folder: Path,
    workers: int = 0,
    scalars: ScalarSettings | None = None,
    scored: Callable[[int], dict[str, float]] | None = None,
    student: Callable[[paddle.nn.Layer], paddle.nn.Layer] = lambda model: model,
    masks: Callable[[paddle.nn.Layer], Masks] | None = None,
    **changes: Any,
) -> TrainResult:
    """Train in `folder`/work on images in `folder`/images; `scored` says what an epoch's evaluation finds.

    `student` gives the network a teacher.
    `masks` makes what holds weights at 0 in the network.
    """
    shapes = SyntheticSet(train_images=7, val_images=3, image_size=64, empty=0.0)
    images, held_out = write_synthetic(folder / "images", shapes)
    dataset, target = load_dataset(images, True), load_dataset(held_out, False)
    paddle.seed(1)
    model = picoquant.build_detector(CONFIG, len(dataset.class_names))
    decoder = Decoder("boxes", NmsSettings())
    with (
        TrainReader(dataset, ReaderSettings.from_mapping(TRAIN_READER, "TrainReader"), 5, workers) as reader,
        EvalReader(target, ReaderSettings.from_mapping(EVAL_READER, "EvalReader"), 0) as held,
    ):

        def score(network: paddle.nn.Layer, epoch: int) -> dict[str, float]:
            if scored is not None:
                return scored(epoch)
            return evaluate(dygraph_predictor(network), decoder, target, held).metrics

        held_at_0 = masks(model) if masks else None
        return train(student(model), reader, settings(**changes), folder / "work", score, scalars, held_at_0)


if __name__ == "__main__":
    run(Path(sys.argv[1]), **json.loads(sys.argv[2]))
