"""A run folder as `picoquant` leaves it, made in a moment: the small networks and a few blocks on grey.

What is annotated is what the float network finds, so that it reaches a high mAP and others are near it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from picoquant.config.recipe import load_recipe
from picoquant.data.images import read_image
from picoquant.packaging.sample import expected_detections
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.yaml_files.load import dump_yaml
from tests.networks.small_int8 import CONFIG, write_small

IMAGES = 5


def same_weights(root: Path) -> None:
    """Give `export/` the weights that `quantize/` has, in float, and annotate what it finds.

    The INT8 network is then near the float one, as quantisation leaves it.
    """
    from picoquant.backends.paddle_lite.x86_form import write_float_form
    from picoquant.backends.source import Source

    export = ModelFolder.open(root / "export")
    write_float_form(Source(ModelFolder.open(root / "quantize")), export.model, export.params)
    annotate(root, [f"blocks_{number}.png" for number in range(1, IMAGES + 1)], export)


def write_run(root: Path) -> Path:
    """`config.yml`, `run.json`, `export/`, `quantize/` and, beside them, `images/` and `val.json`."""
    root.mkdir(parents=True, exist_ok=True)
    names = write_images(root)
    sets = [
        f"EvalDataset.dataset_dir={root}",
        "EvalDataset.image_dir=images",
        "EvalDataset.anno_path=val.json",
        "EvalDataset.box_format=xywh",  # of random weights boxes reach far out of their images
        "EvalReader.batch_size=2",
        "worker_num=0",
    ]
    recipe = load_recipe("picodet_s_416_coco_npu", sets)
    (root / "config.yml").write_text(dump_yaml(recipe.document), encoding="utf-8")
    for stage, quantised in (("export", False), ("quantize", True)):
        (root / stage).mkdir()
        made = write_small(root / stage, quantised)
        if not quantised:
            annotate(root, names, made)
    stages = {name: {"status": "done"} for name in ("export", "quantize")}
    (root / "run.json").write_text(json.dumps({"stages": stages}))
    return root


def write_images(root: Path) -> list[str]:
    """Write `images/`, 64 x 48 pixels each; their names."""
    import cv2

    (root / "images").mkdir()
    random = np.random.default_rng(3)
    names = [f"blocks_{number}.png" for number in range(1, IMAGES + 1)]
    for name in names:
        image = np.full((48, 64, 3), 128, np.uint8)
        for _ in range(4):
            x, y = (int(value) for value in random.integers(0, 40, 2))
            side = int(random.integers(8, 24))
            image[y : y + side, x : x + side] = random.integers(0, 255, 3)
        assert cv2.imwrite(str(root / "images" / name), image)
    return names


def annotate(root: Path, names: list[str], folder: ModelFolder) -> None:
    """Write `val.json`: what a model finds in each of `images/`, at most 6 objects."""
    truth = {
        "images": [],
        "annotations": [],
        "categories": [{"id": n, "name": name} for n, name in enumerate(CONFIG.labels, 1)],
    }
    for number, name in enumerate(names, 1):
        truth["images"].append({"id": number, "file_name": name, "width": 64, "height": 48})
        found = expected_detections(folder, read_image(root / "images" / name))
        for index in np.argsort(-found.scores)[:6]:
            x1, y1, x2, y2 = found.boxes[index].tolist()
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1, "image_id": number, "iscrowd": 0,
                    "category_id": int(found.classes[index]) + 1, "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                }
            )  # fmt: skip
    (root / "val.json").write_text(json.dumps(truth))
