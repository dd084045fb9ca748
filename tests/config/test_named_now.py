"""What a command names wins over what its file names, under whichever key."""

from __future__ import annotations

import logging

import pytest

from picoquant.config.named_now import named_now
from picoquant.errors import ConfigError
from picoquant.stages.plan import load_plan

FILE = """
_BASE_: picodet_s_qat_dis.yaml
Global: {weights: mine.pdparams, input_size: [320, 320], model_filename: own.pdmodel, params_filename: own.pdiparams}
Synthetic: {train_images: 4}
export: {post_process: true, nms: true, benchmark: true}
"""


@pytest.fixture
def plan(tmp_path):
    (tmp_path / "mine.yaml").write_text(FILE)
    return lambda *sets: load_plan(str(tmp_path / "mine.yaml"), sets)


def test_a_model_named_now_replaces_the_files_weights_and_file_names(plan, caplog):
    caplog.set_level(logging.INFO)
    common = plan("Global.model_dir=exported").common
    assert (common.model_dir, common.weights) == ("exported", None)
    assert (common.model_filename, common.params_filename) == ("model.pdmodel", "model.pdiparams")
    assert common.input_size == (320, 320)
    assert [one.getMessage() for one in caplog.records if "named here" in one.getMessage()] == [
        "Global.model_dir is named here, which leaves out the file's Global.weights, Global.model_filename, "
        "Global.params_filename"
    ]


def test_names_that_are_named_now_stay(plan):
    common = plan("Global.model_dir=exported", "Global.model_filename=b.pdmodel").common
    assert (common.model_filename, common.params_filename) == ("b.pdmodel", "model.pdiparams")


def test_both_named_now_contradict_each_other(plan):
    with pytest.raises(ConfigError, match="both set"):
        _ = plan("Global.model_dir=exported", "weights=b.pdparams").common


def test_paddledetections_weights_are_named_now(plan):
    named = plan("weights=b.pdparams")
    assert named.common.weights == "b.pdparams" and named.names_weights and not named.names_model
    assert not plan().names_weights and not plan("Global.weights=null").names_weights


@pytest.mark.parametrize("key", ["dataset_dir=x", "anno_path=x.json", "image_dir=x"])
@pytest.mark.parametrize("section", ["TrainDataset", "EvalDataset"])
def test_a_data_set_named_now_replaces_a_generated_one(plan, section, key):
    assert plan().synthetic.train_images == 4
    assert plan(f"{section}.sample_num=3").synthetic is not None
    assert plan(f"{section}.{key}").synthetic is None
    assert plan(f"{section}.{key}", "Synthetic.val_images=9").synthetic.val_images == 9


def test_the_kind_of_export_named_now_replaces_a_benchmark(plan):
    assert plan().export_kind == "raw"
    assert plan("export.nms=true").export_kind == "detections"
    assert plan("export.post_process=true").export_kind == "detections"
    assert plan("export.post_process=true", "export.nms=false").export_kind == "boxes"
    assert plan("export.benchmark=true").export_kind == "raw"
    assert plan("export.nms=true", "export.benchmark=true").export_kind == "raw"


def test_nms_named_now_brings_the_decoding_it_needs():
    assert load_plan("picodet_s_416_coco_npu").export_kind == "raw"
    assert load_plan("picodet_s_416_coco_npu", ["export.nms=true"]).export_kind == "detections"
    sets = ["export.nms=true", "export.post_process=false"]
    assert load_plan("picodet_s_416_coco_npu", sets).export_kind == "raw"


def test_the_size_of_the_export_named_now_comes_before_the_files(plan):
    assert plan().export_size[0] == (320, 320)
    size, said = plan("TestReader.inputs_def.image_shape=[3,352,352]").export_size
    assert size == (352, 352) and "Global.input_size says 320x320" in said
    both = ["TestReader.inputs_def.image_shape=[3,352,352]", "Global.input_size=[384,384]"]
    assert plan(*both).export_size[0] == (384, 384)


def test_a_mapping_set_at_once_names_its_keys():
    texts = ["Global={weights: a, seed: 2}", "epoch=3", "Global.seed=4", "Calibration=train_all"]
    assert named_now(texts) == {
        "Global.weights": "a",
        "Global.seed": 4,
        "epoch": 3,
        "Calibration": "train_all",
    }
