from __future__ import annotations

import pytest

from picoquant.config.recipe import load_recipe
from picoquant.config.training import train_settings
from picoquant.errors import ConfigError
from picoquant.yaml_files.load import dump_yaml


def test_the_shipped_recipe_has_paddledetections_values():
    document = load_recipe("picodet_s_qat_dis.yaml").document
    assert document["Distillation"] == {"alpha": 1.0, "loss": "l2"}
    assert document["QuantAware"] == {
        "use_pact": True,
        "activation_quantize_type": "moving_average_abs_max",
        "weight_bits": 8,
        "activation_bits": 8,
        "quantize_op_types": ["conv2d", "depthwise_conv2d"],
    }
    assert document["TrainConfig"] == {
        "train_iter": 8000,
        "eval_iter": 1000,
        "learning_rate": {"type": "CosineAnnealingDecay", "learning_rate": 1e-5, "T_max": 8000},
        "optimizer_builder": {"optimizer": {"type": "SGD"}, "weight_decay": 4e-05},
    }
    assert document["architecture"] == "PicoDet"


def test_a_set_value_wins_and_reaches_the_settings():
    recipe = load_recipe("picodet_s_qat_dis", ["Global.input_size=[320,320]", "TrainConfig.train_iter=5"])
    assert recipe.common.input_size == (320, 320)
    assert recipe.document["TrainConfig"]["train_iter"] == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("TrainConfig.train_itr=5", r"unknown key train_itr \(did you mean train_iter\?\)"),
        ("Globl.seed=5", r"unknown key Globl \(did you mean Global\?\)"),
        ("Global.seed", "write it as KEY=VALUE"),
        ("Global.input_size=[300,300]", r"300 is not a multiple of 32"),
        ("eval_height=320", r"set Global\.input_size"),
    ],
)
def test_a_wrong_set_is_one_clear_error(text, message):
    with pytest.raises(ConfigError, match=message):
        _ = load_recipe("picodet_s_qat_dis", [text]).common


def test_an_unknown_key_in_a_file_is_named_with_the_nearest(tmp_path):
    (tmp_path / "r.yaml").write_text("Global: {model_dri: x}\nTrainConfig: {}\n")
    with pytest.raises(
        ConfigError, match=r"r\.yaml: Global: unknown key model_dri \(did you mean model_dir\?\)"
    ):
        load_recipe(str(tmp_path / "r.yaml"))


def test_a_file_with_only_paddleslims_four_sections_is_whole(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "Global: {model_dir: ./exported, include_nms: true, model_filename: model.pdmodel}\n"
        "Distillation: {alpha: 1.0, loss: l2}\nQuantAware: {use_pact: false}\nTrainConfig: {train_iter: 3}\n"
    )
    recipe = load_recipe(str(tmp_path / "mine.yaml"))
    assert recipe.common.model_dir == "./exported"
    assert recipe.document["TrainConfig"] == {"train_iter": 3}
    assert recipe.targets == ["rv1126"]
    assert recipe.document["TrainDataset"].tag == "COCODataSet"


def test_a_detector_configuration_takes_the_default_sections():
    recipe = load_recipe("picodet_s_416_coco_npu")
    assert recipe.document["TrainConfig"]["train_iter"] == 8000
    assert recipe.document["export"]["post_process"] is False  # an NPU runs the network only


def test_the_resolved_configuration_reads_back_as_itself(tmp_path):
    recipe = load_recipe("picodet_s_qat_dis", ["epoch=7", "TrainDataset.dataset_dir=data/x"])
    (tmp_path / "config.yml").write_text(dump_yaml(recipe.document))
    again = load_recipe(str(tmp_path / "config.yml"))
    assert again.document == recipe.document
    assert again.document["TrainDataset"].tag == "COCODataSet"


def test_a_resolved_configuration_needs_no_file_that_it_came_from(tmp_path):
    (tmp_path / "det.yml").write_text("_BASE_: [picodet_s_416_coco_npu.yml]\nepoch: 3\n")
    (tmp_path / "mine.yaml").write_text("Global: {config: det.yml}\n")
    recipe = load_recipe(str(tmp_path / "mine.yaml"))
    assert recipe.document["epoch"] == 3
    (tmp_path / "config.yml").write_text(dump_yaml(recipe.document))
    (tmp_path / "det.yml").unlink()
    assert load_recipe(str(tmp_path / "config.yml")).document == recipe.document


def test_an_unknown_name_lists_what_is_shipped():
    with pytest.raises(ConfigError, match=r"picodet_s_qat_diss.yaml.*did you mean picodet_s_qat_dis\?"):
        load_recipe("picodet_s_qat_diss.yaml")


def test_weights_and_model_dir_together_are_refused():
    with pytest.raises(ConfigError, match="both set"):
        _ = load_recipe("picodet_s_qat_dis", ["Global.weights=a", "Global.model_dir=b"]).common


def test_a_recipe_of_five_lines_builds_on_a_shipped_one(tmp_path):
    (tmp_path / "cells.yaml").write_text(
        "_BASE_: picodet_s_qat_dis.yaml\n"
        "Global: {weights: best.pdparams, input_size: [320, 320]}\n"
        "TrainDataset: {dataset_dir: cells, image_dir: images, anno_path: train.json}\n"
        "EvalDataset: {dataset_dir: cells, image_dir: images, anno_path: val.json}\n"
        "TrainConfig: {train_iter: 60, learning_rate: {T_max: 60}}\n"
    )
    recipe = load_recipe(str(tmp_path / "cells.yaml"))
    shipped = load_recipe("picodet_s_qat_dis").document
    assert recipe.common.weights == "best.pdparams" and recipe.common.input_size == (320, 320)
    assert recipe.document["EvalDataset"] == {
        **shipped["EvalDataset"],
        "dataset_dir": "cells",
        "image_dir": "images",
        "anno_path": "val.json",
    }
    assert recipe.document["EvalDataset"].tag == "COCODataSet"
    assert recipe.document["TrainConfig"] == {
        **shipped["TrainConfig"],
        "train_iter": 60,
        "learning_rate": {**shipped["TrainConfig"]["learning_rate"], "T_max": 60},
    }
    assert recipe.document["Quantize"] == shipped["Quantize"]


def test_a_base_of_a_recipes_name_beside_the_file_comes_first(tmp_path):
    (tmp_path / "quickstart.yaml").write_text("Global: {seed: 5}\n")
    (tmp_path / "mine.yaml").write_text("_BASE_: quickstart.yaml\n")
    assert load_recipe(str(tmp_path / "mine.yaml")).common.seed == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("export: [1]", "export: expected keys and values, found [1]"),
        ("Global: {config: [a]}", "Global.config: expected a file's name, found ['a']"),
        ("Global: {reader_config: {a: 1}}", "Global.reader_config: expected a file's name, found {'a': 1}"),
    ],
)
def test_a_section_of_another_kind_is_named(tmp_path, text, message):
    file = tmp_path / "mine.yaml"
    file.write_text(f"_BASE_: picodet_s_qat_dis.yaml\n{text}\n")
    with pytest.raises(ConfigError) as raised:
        load_recipe(str(file))
    assert message in str(raised.value)


def test_null_sections_are_empty_ones(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("_BASE_: picodet_s_qat_dis.yaml\nexport: null\n")
    assert load_recipe(str(file)).document["export"] == {"post_process": False, "nms": False}
    defaults = load_recipe("picodet_s_qat_dis.yaml").document["Global"]
    assert load_recipe(str(file), ["Global=null"]).document["Global"] == {**defaults, "config": None}
    with pytest.raises(ConfigError, match="Global: expected keys and values, found 'x'"):
        load_recipe(str(file), ["Global=x"])


@pytest.mark.parametrize("key", ["optimizer", "regularizer"])
def test_an_optimizer_of_another_kind_is_named(key):
    recipe = load_recipe("picodet_s_320_coco", [f"OptimizerBuilder.{key}=[0]"])
    with pytest.raises(ConfigError, match=rf"OptimizerBuilder.{key}: expected keys and values, found \[0\]"):
        train_settings(recipe)


@pytest.mark.parametrize(
    ("sets", "weights", "model_dir"),
    [
        ([], "file.pdparams", None),
        (["Global.model_dir=now"], None, "now"),
        (["Global={model_dir: now}"], None, "now"),
        (["Global.weights=now.pdparams"], "now.pdparams", None),
        (["Global.model_dir=null"], "file.pdparams", None),
        (["Global.model_dir=now", "Global.model_dir=null"], "file.pdparams", None),
    ],
)
def test_what_is_named_now_wins_over_the_file(tmp_path, sets, weights, model_dir):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("Global: {config: picodet_s_416_coco_npu, weights: file.pdparams}\n")
    common = load_recipe(str(recipe), sets).common
    assert (common.weights, common.model_dir) == (weights, model_dir)


def test_weights_named_now_win_over_the_files_model(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("Global: {config: picodet_s_416_coco_npu, model_dir: exported}\n")
    common = load_recipe(str(recipe), ["Global.weights=now.pdparams"]).common
    assert (common.weights, common.model_dir) == ("now.pdparams", None)


def test_both_named_now_are_refused(tmp_path):
    sets = ["Global.weights=a.pdparams", "Global.model_dir=b"]
    with pytest.raises(ConfigError, match=r"Global\.weights and Global\.model_dir are both set"):
        assert load_recipe("picodet_s_416_coco_npu", sets).common


def test_a_folder_of_that_name_is_not_taken_for_a_shipped_file(tmp_path, monkeypatch):
    """PaddleDetection's exports are folders named like the configuration."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "picodet_s_320_coco_lcnet").mkdir()
    (tmp_path / "r.yaml").write_text(
        "Global: {config: picodet_s_320_coco_lcnet, include_post_process: true}\n"
    )
    assert load_recipe("r.yaml").document["architecture"] == "PicoDet"
    assert load_recipe("picodet_s_320_coco_lcnet").document["architecture"] == "PicoDet"
    (tmp_path / "mine").mkdir()
    with pytest.raises(ConfigError, match="mine is a folder; --config takes a YAML file"):
        load_recipe("mine")
