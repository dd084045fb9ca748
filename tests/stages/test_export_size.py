"""`-o TestReader.inputs_def.image_shape=…`: the model, infer_cfg.yml and what is said have that size."""

from __future__ import annotations

import pytest
import yaml

from picoquant.paddle_program.program import program_facts
from tests.command_line import picoquant
from tests.data.coco_sets import write_set


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    import paddle

    import picoquant

    path = tmp_path_factory.mktemp("weights") / "random.pdparams"
    paddle.save(picoquant.build_detector("picodet_s_416_coco_npu.yml", num_classes=2).state_dict(), str(path))
    return path


def test_image_shape_sets_the_size_of_an_export(weights, tmp_path):
    data = write_set(tmp_path / "data", 2)
    done = picoquant(
        "export", "-c", "picodet_s_416_coco_npu", "--save-dir", tmp_path / "out",
        "-o", "TestReader.inputs_def.image_shape=[1,3,64,96]", f"Global.weights={weights}", "worker_num=0",
        *(f"EvalDataset.{key}={getattr(data, key)}" for key in ("dataset_dir", "image_dir", "anno_path")),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    folder = tmp_path / "out/export"
    config = yaml.safe_load((folder / "infer_cfg.yml").read_text())
    assert config["Preprocess"][0]["target_size"] == [64, 96] and config["label_list"] == ["seven", "three"]
    assert dict(program_facts(folder / "model.pdmodel").inputs)["image"][1:] == (3, 64, 96)
    said = (
        "export: input of 64x96 (height x width), from TestReader.inputs_def.image_shape; EvalReader's Resize"
    )
    assert f"{said} says 416x416" in done.stderr
