"""A run folder with an export that is quantised within a second: what a search needs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle
from paddle import nn

from picoquant.config.recipe import load_recipe
from picoquant.paddle_program.infer_config import write_infer_config
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.yaml_files.load import dump_yaml
from tests.networks.run_folder import annotate, write_images
from tests.networks.small_int8 import CLASSES, CONFIG


class Tiny(nn.Layer):
    """Raw outputs of one level as PicoDet's: class logits `[N, 16, 3]`, distance logits `[N, 16, 32]`."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.middle = nn.Conv2D(3, 8, 8, 8), nn.Conv2D(8, 8, 3, 1, 1, groups=8)
        self.scores, self.sides = nn.Conv2D(8, CLASSES, 1), nn.Conv2D(8, 32, 1)
        random = np.random.RandomState(5)
        for name, value in self.state_dict().items():
            drawn = random.randn(*value.shape) * (
                1.0 if name.endswith("bias") else 2 / np.prod(value.shape[1:]) ** 0.5
            )
            value.set_value(drawn.astype("float32"))

    def forward(self, image):
        features = nn.functional.relu6(self.middle(nn.functional.relu6(self.stem(image))))
        outputs = nn.functional.sigmoid(self.scores(features)), self.sides(features)
        return [paddle.transpose(paddle.flatten(value, 2), [0, 2, 1]) for value in outputs]


def write_tiny_run(root: Path) -> Path:
    """`config.yml`, `run.json`, `export/`, and beside them `images/` and `val.json`, which train and evaluate.

    What is annotated is what the network finds.
    """
    root.mkdir(parents=True)
    names = write_images(root)
    with paddle.utils.unique_name.guard():
        network = Tiny()
        network.eval()
        spec = [paddle.static.InputSpec([None, 3, 32, 32], "float32", "image")]
        paddle.jit.save(network, str(root / "export/model"), input_spec=spec)
    write_infer_config(replace(CONFIG, strides=(8,)), root / "export")
    annotate(root, names, ModelFolder.open(root / "export"))
    truth = json.loads((root / "val.json").read_text())
    (root / "train.json").write_text(json.dumps(truth))
    sets = [
        f"{section}.{key}={value}"
        for section, file in (("TrainDataset", "train.json"), ("EvalDataset", "val.json"))
        for key, value in (
            ("dataset_dir", root), ("image_dir", "images"), ("anno_path", file), ("box_format", "xywh")
        )
    ]  # fmt: skip
    more = ["EvalReader.batch_size=2", "worker_num=0", "TrainConfig.train_iter=2", "TrainConfig.eval_iter=2"]
    recipe = load_recipe("picodet_s_416_coco_npu", [*sets, *more])
    (root / "config.yml").write_text(dump_yaml(recipe.document), encoding="utf-8")
    (root / "run.json").write_text(json.dumps({"stages": {"export": {"status": "done"}}}))
    return root
