"""What a command names wins over what its file names, under whichever key."""

from __future__ import annotations

import logging

import pytest
from click.testing import CliRunner

from picoquant.cli.main import cli
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


def test_a_data_set_of_a_later_file_replaces_a_generated_one(plan, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    own = "_BASE_: quickstart.yaml\nTrainDataset: !COCODataSet {dataset_dir: d, image_dir: i, anno_path: a.json}\n"
    (tmp_path / "later.yaml").write_text(own)
    assert load_plan("quickstart.yaml").synthetic is not None
    later = load_plan(str(tmp_path / "later.yaml"))
    assert later.synthetic is None and later.train_dataset.dataset_dir == "d"
    assert "TrainDataset.dataset_dir" not in caplog.text  # the last that is named
    assert "TrainDataset.anno_path stands on the file with Synthetic, which is left out" in caplog.text
    (tmp_path / "both.yaml").write_text(f"{own}Synthetic: {{train_images: 3}}\n")
    assert load_plan(str(tmp_path / "both.yaml")).synthetic.train_images == 3
    assert "both.yaml: Synthetic and TrainDataset.anno_path: the images are generated" in caplog.text


def test_epochs_named_now_count_in_place_of_the_files_steps(plan):
    assert plan().quantization.train.steps(1000) == 8000
    assert plan("TrainConfig.epochs=10").quantization.train.steps(1000) == 10000
    both = ["TrainConfig.epochs=10", "TrainConfig.train_iter=50"]
    assert plan(*both).quantization.train.steps(1000) == 50


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["ema_decay=0.9", "use_ema=false"], "ema_decay: not used, for use_ema is false"),
        (["ema_decay=0.9", "use_ema=true"], ""),
        (["use_ema=false"], ""),
        (["OptimizerBuilder.optimizer={type: AdamW}"], "OptimizerBuilder.regularizer: not read with AdamW"),
        (["OptimizerBuilder.optimizer={type: AdamW}", "OptimizerBuilder.regularizer=false"], ""),
    ],
)
def test_what_training_does_not_read_is_said(sets, said, caplog):
    caplog.set_level(logging.INFO)
    _ = load_plan("picodet_s_416_coco_npu", sets).training
    assert (said in caplog.text) if said else not caplog.text


def test_more_workers_than_processors_are_said(caplog, monkeypatch):
    monkeypatch.setattr("picoquant.config.data.available_cpus", lambda: 2)
    caplog.set_level(logging.INFO)
    assert load_plan("picodet_s_416_coco_npu").workers == 2 and not caplog.text  # 6 in the file
    assert load_plan("picodet_s_416_coco_npu", ["worker_num=2"]).workers == 2 and not caplog.text
    assert load_plan("picodet_s_416_coco_npu", ["worker_num=8"]).workers == 2
    assert "worker_num: 2, as this machine has no more processors (not 8)" in caplog.text


def test_preparation_that_an_exported_model_has_otherwise_is_said(caplog):
    config = load_plan("picodet_s_416_coco_npu").infer_config(["a"])
    key = "EvalReader.sample_transforms.1.Resize.target_size"
    for sets, said in (
        ([], ""),
        ([f"{key}=[416,416]"], ""),
        (
            [f"{key}=[320,320]"],
            f"{key}: the exported model has its own: input_size [416, 416], not [320, 320]",
        ),
    ):
        caplog.clear()
        made = load_plan("picodet_s_416_coco_npu", sets)
        for _ in range(2):
            assert made.eval_reader_of(config).preparation.size == (416, 416)
        assert len(caplog.records) == bool(said) and said in caplog.text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--input-size", "320", "--set", "Global.input_size=416"],
            "--input-size and Global.input_size are both",
        ),
        (["--target", "rv1126", "Package.target=a311d"], "--target and Package.target are both given"),
    ],
)
def test_an_option_and_its_key_are_not_both_taken(words, said):
    found = CliRunner().invoke(cli, ["run", "--config", "quickstart.yaml", *words])
    assert found.exit_code == 2 and said in found.output
