"""Files of PaddleX: what they name is found, and their keys mean what they mean there."""

from __future__ import annotations

import logging

import pytest

from picoquant.config.paddlex import models
from picoquant.config.recipe import load_recipe
from picoquant.errors import ConfigError
from picoquant.stages.plan import load_plan
from picoquant.yaml_files.load import dump_yaml

FILE = """
Global: {{model: {model}, mode: train, dataset_dir: sets/parts, device: "gpu:0,1", output: out}}
CheckDataset:
  convert: {{enable: false, src_dataset_type: null}}
  split: {{enable: false, train_percent: null, val_percent: null}}
Train:
  {{num_classes: 2, epochs_iters: 30, batch_size: 6, learning_rate: 0.02, pretrain_weight_path: null,
    warmup_steps: 70, resume_path: null, log_interval: 5, eval_interval: 3}}
Evaluate: {{weight_path: out/best_model/best_model.pdparams, log_interval: 10}}
Export: {{weight_path: "https://example.org/weights.pdparams"}}
Predict: {{batch_size: 1, model_dir: out/best_model/inference, input: image.png, kernel_option: {{run_mode: paddle}}}}
"""

# Input size, backbone, classes and epochs of PaddleX's own detector files.
DETECTORS = {
    "PicoDet-XS": ((416, 416), "LCNet", 0.35, 80, 300),
    "PicoDet-S": ((320, 320), "LCNet", 0.75, 80, 50),
    "PicoDet-M": ((416, 416), "LCNet", 1.5, 80, 250),
    "PicoDet-L": ((640, 640), "LCNet", 2.0, 80, 50),
    "PicoDet-S_layout_3cls": ((480, 480), "LCNet", 0.75, 3, 100),
    "PicoDet-S_layout_17cls": ((480, 480), "LCNet", 0.75, 17, 100),
    "PicoDet-L_layout_3cls": ((640, 640), "LCNet", 2.0, 3, 100),
    "PicoDet-L_layout_17cls": ((640, 640), "LCNet", 2.0, 17, 100),
    "PicoDet_layout_1x": ((800, 608), "LCNet", 1.0, 5, 50),
    "PicoDet_layout_1x_table": ((800, 608), "LCNet", 1.0, 1, 50),
    "PicoDet_LCNet_x2_5_face": ((1088, 1088), "LCNet", 2.5, 1, 300),
    "PP-DocLayout-S": ((480, 480), "LCNet", 0.75, 23, 100),
    "PP-DocLayout-M": ((640, 640), "LCNet", 2.0, 17, 100),
    "PP-ShiTuV2_det": ((640, 640), "LCNet", 2.5, 80, 100),
}


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def to(text, name="mine.yaml"):
        (tmp_path / name).write_text(text)
        return name

    return to


def test_every_model_has_paddlexs_values():
    assert set(models()) == set(DETECTORS)
    for name, (size, backbone, scale, classes, epochs) in DETECTORS.items():
        plan = load_plan(name)
        assert plan.export_size == (size, ""), name
        detector = plan.detector
        assert (type(detector.backbone).__name__, detector.backbone.scale) == (backbone, scale), name
        assert (detector.num_classes, plan.training.epochs) == (classes, epochs), name
        assert str(plan.eval_dataset.annotation_file) == "datasets/COCO/annotations/instance_val.json"
        assert plan.train_reader.batch_size >= plan.eval_reader.batch_size


def test_its_keys_reach_the_settings(write, caplog):
    caplog.set_level(logging.INFO)
    plan = load_plan(write(FILE.format(model="PicoDet-S")))
    training = plan.training
    assert (training.epochs, training.log_iter, training.snapshot_epoch) == (30, 5, 3)
    assert training.learning_rate.base_lr == 0.02 and training.learning_rate.warmup.steps == 70
    assert training.learning_rate.decay.max_epochs == 300  # PaddleX leaves it
    assert plan.train_reader.batch_size == 6 and plan.num_classes == 2
    assert plan.detector.head.static_assigner_epoch == 3
    assert str(plan.pretrain_weights).endswith(
        "PPLCNet_x0_75_pretrained.pdparams"
    )  # null: the detector's own
    assert str(plan.train_dataset.annotation_file) == "sets/parts/annotations/instance_train.json"
    assert str(plan.eval_dataset.image_folder) == "sets/parts/images"
    assert plan.common.weights is None and plan.common.weights_elsewhere is None
    (line,) = [one.getMessage() for one in caplog.records]
    assert line == (
        "mine.yaml: a file of PaddleX's, its model PicoDet-S is "
        "picoquant's configuration of that name; not read: Global.mode: train, Global.device: gpu:0,1, "
        "Global.output: out, Predict (the command, --device, --save-dir, the arguments of `picoquant predict` instead)"
    )


def test_a_head_without_a_static_assigner_gets_none(write):
    plan = load_plan(write(FILE.format(model="PicoDet_layout_1x")))
    assert type(plan.detector.head).__name__ == "PicoHead" and plan.training.epochs == 30


def test_its_keys_can_be_set_now_and_picoquants_stand_beside_them(write):
    text = FILE.format(model="PicoDet-XS") + "Quantize: {method: ptq}\n"
    sets = [
        "Global.model=PicoDet-M", "Global.mode=export", "Train.epochs_iters=9", "Global.dataset_dir=/other",
        "CheckDataset.split.enable=false", "Global.seed=4", "Train.reference_batch=64", "epoch=11",
    ]  # fmt: skip
    plan = load_plan(write(text), sets)
    assert plan.detector.backbone.scale == 1.5 and plan.common.seed == 4
    assert plan.training.reference_batch == 64 and plan.training.epochs == 11  # picoquant's key comes last
    assert str(plan.eval_dataset.root) == "/other"
    assert plan.quantization.own.method == "ptq"


def test_the_resolved_file_reads_back(write):
    recipe = load_recipe(write(FILE.format(model="PicoDet-S")))
    write(dump_yaml(recipe.document), "config.yml")
    assert load_recipe("config.yml").document == recipe.document


def test_weights_that_paddlex_trained_are_for_a_run_without_its_own(write, tmp_path):
    (tmp_path / "out" / "best_model").mkdir(parents=True)
    (tmp_path / "out" / "best_model" / "best_model.pdparams").write_bytes(b"")
    common = load_plan(write(FILE.format(model="PicoDet-S"))).common
    assert common.weights_elsewhere == "out/best_model/best_model.pdparams" and common.weights is None


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "PicoDet-S",
            "PP-YOLOE_plus-S",
            "Global.model: PP-YOLOE_plus-S is no PicoDet of PaddleX's.*PicoDet-L, ",
        ),
        ("PicoDet-S", "PicoDet-SX", r"PicoDet-SX is no PicoDet of PaddleX's \(did you mean PicoDet-S\?\)"),
        ("epochs_iters", "epoch_iters", r"Train: unknown key epoch_iters \(did you mean epochs_iters\?\)"),
        ("Train:", "Train: 5\nOther:", "Train: expected keys and values, found 5"),
        ("dataset_dir", "dataset_dri", r"Global: unknown key dataset_dri \(did you mean dataset_dir\?\)"),
    ],
)
def test_what_is_wrong_is_one_line(write, old, new, message):
    with pytest.raises(ConfigError, match=message):
        load_recipe(write(FILE.format(model="PicoDet-S").replace(old, new, 1)))


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        (
            ["CheckDataset.convert.enable=true"],
            "CheckDataset.convert.enable: true: no data set is converted here",
        ),
        (["CheckDataset.split.enable=true"], "CheckDataset.split.enable: true: no data set is split here"),
        (["Train.resume_path=a.pdparams"], "Train.resume_path: a.pdparams is not continued from"),
        (["Train.dy2st=true"], "Train.dy2st: accepted, but without effect here"),
    ],
)
def test_what_is_not_done_is_said(write, caplog, sets, message):
    load_recipe(write(FILE.format(model="PicoDet-S")), sets)
    assert [message in one.getMessage() for one in caplog.records if one.levelname == "WARNING"] == [True]


@pytest.mark.parametrize("form", ["!COCODetDataset {%s}", "{name: COCODetDataset, %s}"])
def test_its_data_set_tag_is_a_coco_set(write, form):
    keys = "dataset_dir: d, image_dir: images, anno_path: a.json, data_fields: [image]"
    text = f"_BASE_: picodet_s_320_coco_lcnet.yml\nTrainDataset: {form % keys}\n"
    settings = load_plan(write(text)).train_dataset
    assert (settings.format, str(settings.annotation_file)) == ("coco", "d/a.json")
