"""PaddleX's files, a detector's own and one that names a model, from training to a package."""

from __future__ import annotations

import json

import pytest
import yaml

from picoquant.data.formats.synthetic import SyntheticSet, write_synthetic
from picoquant.yaml_files.load import dump_yaml, load_with_bases
from tests.command_line import picoquant, with_sets

READER = [
    {"Decode": {}},
    {"Resize": {"interp": 2, "target_size": [96, 96], "keep_ratio": False}},
    {"NormalizeImage": {"is_scale": True, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}},
    {"Permute": {}},
]
FEW = [
    "TrainConfig.train_iter=2", "TrainConfig.eval_iter=2", "Calibration.count=4", "Calibration.batch_size=2",
    "Quantize.cross_layer_equalisation=false", "Quantize.ranges=mse", "Package.target=generic_onnx",
    "pretrain_weights=null",
]  # fmt: skip


def tagged(mapping, tag):
    """YAML of a section with PaddleX's tag."""
    lines = yaml.safe_dump(mapping, default_flow_style=False).splitlines()
    return "\n".join([f"  {tag}", *(f"    {line}" for line in lines)])


def detector_file(root):
    """A detector's file as PaddleX has them: one file without bases, `!COCODetDataset`, epochs and readers in it."""
    values = {
        **load_with_bases(root / "configs/picodet_xs_416_coco_lcnet.yml"),
        "num_classes": 5, "metric": "COCO", "worker_num": 0, "epoch": 1, "log_iter": 1,
    }  # fmt: skip
    for key in ("TrainDataset", "EvalDataset", "TestDataset"):
        values.pop(key, None)
    values["EvalReader"] = {"sample_transforms": READER, "batch_size": 4, "shuffle": False}
    values["TrainReader"] = {
        "sample_transforms": READER[:1],
        "batch_transforms": [*READER[1:], {"PadGT": {}}],
        "batch_size": 4, "shuffle": True, "drop_last": True, "collate_batch": False,
    }  # fmt: skip
    values["TestReader"] = {"inputs_def": {"image_shape": [1, 3, 96, 96]}, "sample_transforms": READER}
    values["LearningRate"] = {
        "base_lr": 0.01,
        "schedulers": [{"name": "CosineDecay", "max_epochs": 1}],
    }  # fmt: skip
    sets = {
        section: {
            "image_dir": part, "anno_path": f"annotations/instances_{part}.json", "dataset_dir": "made",
            "data_fields": ["image", "gt_bbox", "gt_class", "is_crowd"],
        }
        for section, part in (("TrainDataset", "train"), ("EvalDataset", "val"))
    }  # fmt: skip
    return dump_yaml(values) + "".join(
        f"{name}:\n{tagged(each, '!COCODetDataset')}\n" for name, each in sets.items()
    )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["detector", "named"])
def test_from_training_to_a_package(root, tmp_path, kind):
    write_synthetic(tmp_path / "made", SyntheticSet(train_images=8, val_images=4, image_size=96))
    sets = FEW
    if kind == "detector":
        (tmp_path / "mine.yaml").write_text(detector_file(root))
    else:
        for part in ("train", "val"):
            folder = tmp_path / "made/annotations"
            content = json.loads((folder / f"instances_{part}.json").read_text())
            for image in content["images"]:
                image["file_name"] = f"{part}/{image['file_name']}"
            (folder / f"instance_{part}.json").write_text(json.dumps(content))
        (tmp_path / "made/images").mkdir()
        for part in ("train", "val"):
            (tmp_path / "made/images" / part).symlink_to(tmp_path / "made" / part)
        (tmp_path / "mine.yaml").write_text(
            yaml.safe_dump(
                {
                    "Global": {
                        "model": "PicoDet-XS",
                        "mode": "train",
                        "dataset_dir": "made",
                        "device": "gpu:0",
                    },
                    "Train": {
                        "num_classes": 5,
                        "epochs_iters": 1,
                        "batch_size": 4,
                        "learning_rate": 0.01,
                        "warmup_steps": 2,
                    },
                }  # fmt: skip
            )
        )
        sets = [*FEW, "Global.input_size=[96,96]", "worker_num=0", "EvalReader.batch_size=4"]
    done = picoquant(
        "run", "-c", "mine.yaml", "--save-dir", "out", *with_sets(sets), cwd=tmp_path, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    stages = json.loads((tmp_path / "out/run.json").read_text())["stages"]
    assert [stages[name]["status"] for name in ("train", "export", "quantize", "evaluate", "package")] == [
        "done"
    ] * 5
    (manifest,) = (tmp_path / "out/package").glob("*/manifest.json")
    facts = json.loads(manifest.read_text())
    assert facts["model"]["input_size"] == [96, 96] and len(facts["model"]["labels"]) == 5
    verified = picoquant("verify", manifest.parent, cwd=tmp_path)
    assert verified.returncode == 0, verified.stderr
