"""PicoDet's compression examples run as they are, with networks made here in the folders that they name.

Keys and values are those of PaddleSlim (example/auto_compression/detection, example/full_quantization/picodet,
example/post_training_quantization/detection) and PaddleDetection (deploy/auto_compression), release/2.5 to develop.
"""

from __future__ import annotations

import json

import pytest
import yaml

from picoquant.data.formats.synthetic import SyntheticSet, write_synthetic
from picoquant.stages.order import run_recipe
from tests.command_line import picoquant, with_sets

DATA = [
    f"{section}Dataset={{dataset_dir: dataset/coco, image_dir: {part}2017, "
    f"anno_path: annotations/instances_{part}2017.json}}"
    for section, part in (("Train", "train"), ("Eval", "val"))
]
MEAN = {"imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]), "none": ([0, 0, 0], [1, 1, 1])}


def reader(side, mean, **more):
    """A reader file: data sets as the examples name them, and EvalReader."""
    sets = {
        f"{section}Dataset": yaml.safe_load(text.split("=", 1)[1])
        for section, text in zip(("Train", "Eval"), DATA)
    }
    mean, std = MEAN[mean]
    transforms = [
        {"Decode": {}},
        {"Resize": {"interp": 2, "target_size": [side, side], "keep_ratio": False}},
        {"NormalizeImage": {"is_scale": True, "mean": mean, "std": std}},
        {"Permute": {}},
    ]
    values = {"sample_transforms": transforms, "batch_size": 8, **more}
    return {"metric": "COCO", "num_classes": 80, **sets, "worker_num": 0, "EvalReader": values}


def qat(model, section="QuantAware", rate=0.00001, **common):
    """A file of auto-compression."""
    return {
        "Global": {
            **common, "Evaluation": True, "model_dir": model, "model_filename": "model.pdmodel",
            "params_filename": "model.pdiparams",
        },
        "Distillation": {"alpha": 1.0, "loss": "l2"},
        section: {
            "use_pact": True, "activation_quantize_type": "moving_average_abs_max", "weight_bits": 8,
            "activation_bits": 8, "quantize_op_types": ["conv2d", "depthwise_conv2d"],
        },
        "TrainConfig": {
            "train_iter": 8000, "eval_iter": 1000,
            "learning_rate": {"type": "CosineAnnealingDecay", "learning_rate": rate, "T_max": 8000},
            "optimizer_builder": {"optimizer": {"type": "SGD"}, "weight_decay": 4.0e-05},
        },
    }  # fmt: skip


NPU, S416, S320 = "./picodet_s_416_coco_npu", "./picodet_s_416_coco_lcnet/", "./picodet_s_320_coco_lcnet/"
INPUTS = {"inputs_def": {"image_shape": [1, 3, 416, 416]}}
PAD = {"batch_transforms": [{"PadBatch": {"pad_to_stride": 32}}], "shuffle": False}
BOTH = ["image", "scale_factor"]
EXAMPLES = {
    "PaddleSlim, auto-compression": qat(S416, "Quantization", input_list=BOTH, reader_config="reader.yml"),
    "PaddleSlim, full, network": qat(
        NPU, "Quantization", input_list=["image"], include_post_process=False, reader_config="reader.yml"
    ),
    "PaddleSlim, full, post-processing": qat(
        NPU, input_list=BOTH, include_post_process=True, reader_config="reader.yml"
    ),
    "PaddleSlim, PTQ": {
        "input_list": BOTH, "model_dir": S416, "model_filename": "model.pdmodel", "params_filename": "model.pdiparams",
        "skip_tensor_list": "None", **reader(416, "imagenet", **INPUTS),
    },
    "PaddleDetection 2.5": qat(f"{NPU}/", include_nms=True, reader_config="reader.yml"),
    "PaddleDetection develop": qat(f"{NPU}/", include_nms=True),
    "PaddleDetection, 320": qat(S320, rate=0.00005, include_nms=True),
}  # fmt: skip
READERS = {
    "PaddleSlim, auto-compression": reader(416, "imagenet", **INPUTS),
    "PaddleDetection 2.5": reader(416, "none", **PAD),
}
FEW = [
    "TrainConfig.train_iter=2", "TrainConfig.eval_iter=2", "Calibration.count=2", "Calibration.batch_size=2",
    "Quantize.cross_layer_equalisation=false", "Quantize.ranges=mse", "Global.Evaluation=false",
]  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with COCO's names of data, and the three exported networks."""
    import paddle

    from picoquant.detector.build import build_picodet
    from picoquant.detector.weights import save_weights
    from picoquant.stages.plan import load_plan

    root = tmp_path_factory.mktemp("examples")
    write_synthetic(root / "made", SyntheticSet(train_images=4, val_images=4, image_size=96))
    (root / "dataset/coco/annotations").mkdir(parents=True)
    for part in ("train", "val"):
        content = json.loads((root / f"made/annotations/instances_{part}.json").read_text())
        content["categories"] += [
            {"id": 1000 + n, "name": f"c{n}"} for n in range(80 - len(content["categories"]))
        ]
        (root / f"dataset/coco/annotations/instances_{part}2017.json").write_text(json.dumps(content))
        (root / f"dataset/coco/{part}2017").symlink_to(root / "made" / part)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        for name in ("picodet_s_416_coco_npu", "picodet_s_416_coco_lcnet", "picodet_s_320_coco_lcnet"):
            paddle.seed(0)
            save_weights(build_picodet(load_plan(name, DATA).detector), root / f"{name}.pdparams")
            sets = [
                *DATA,
                "worker_num=0",
                f"Global.weights={name}.pdparams",
                "export.post_process=true",
                "export.nms=true",
            ]
            run_recipe(name, f"run_{name}", sets, "export", "export")
            (root / f"run_{name}/export").rename(root / name)
    return root


@pytest.mark.slow
@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_runs_as_it_is(place, name):
    (place / "reader.yml").write_text(yaml.safe_dump(READERS.get(name, reader(416, "none", batch_size=1))))
    (place / "example.yaml").write_text(yaml.safe_dump(EXAMPLES[name]))
    out = f"out_{list(EXAMPLES).index(name)}"
    done = picoquant(
        "quantize", "-c", "example.yaml", "--save-dir", out, *with_sets(FEW), cwd=place, timeout=1800
    )
    assert done.returncode == 0, done.stderr[-3000:]
    facts = json.loads((place / out / "run.json").read_text())["stages"]["quantize"]
    assert facts["status"] == "done" and facts["metrics"]["quantized_operators"] > 80
