from __future__ import annotations

import pytest

from picoquant.errors import ConfigError
from picoquant.yaml_files.load import (
    Tagged,
    dump_yaml,
    load_detection_config,
    load_with_bases,
    merge,
    parse_yaml,
)


def test_a_tagged_mapping_keeps_its_tag_through_writing_and_reading():
    value = parse_yaml("TrainDataset:\n  !COCODataSet\n    image_dir: a\nlr: 1e-5\n", "t.yml")
    assert value["TrainDataset"].tag == "COCODataSet"
    assert value["lr"] == 1e-5
    again = parse_yaml(dump_yaml(value), "t.yml")
    assert again == value and again["TrainDataset"].tag == "COCODataSet"


def test_an_error_names_file_and_line():
    with pytest.raises(ConfigError, match=r"bad\.yml line 3: not valid YAML"):
        parse_yaml("a: 1\nb: [1, 2\n", "bad.yml")


def test_python_objects_are_not_made():
    with pytest.raises(ConfigError, match="not valid YAML"):
        parse_yaml("a: !!python/object/apply:os.system ['true']", "evil.yml")


def test_aliases_that_multiply_are_refused():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 9)]
    with pytest.raises(ConfigError, match="grow without bound"):
        parse_yaml("\n".join(lines), "bomb.yml")


def test_a_mapping_that_holds_itself_is_refused():
    with pytest.raises(ConfigError, match="grow without bound|not usable"):
        parse_yaml("a: &a {b: *a}", "self.yml")


def test_tagged_mappings_replace_and_plain_ones_merge():
    base = {"D": Tagged("COCODataSet", {"x": 1, "y": 2}), "R": {"x": 1, "y": 2}}
    merged = merge(base, {"D": Tagged("VOCDataSet", {"x": 3}), "R": {"x": 3}})
    assert merged["D"] == {"x": 3} and merged["D"].tag == "VOCDataSet"
    assert merged["R"] == {"x": 3, "y": 2}
    changed = merge(base, {"D": {"x": 5}})["D"]
    assert changed == {"x": 5, "y": 2} and changed.tag == "COCODataSet"


def test_bases_that_go_round_are_an_error(tmp_path):
    (tmp_path / "a.yml").write_text("_BASE_: [b.yml]\n")
    (tmp_path / "b.yml").write_text("_BASE_: [a.yml]\n")
    with pytest.raises(ConfigError, match=r"round in a circle: a\.yml -> b\.yml -> a\.yml"):
        load_with_bases(tmp_path / "a.yml")


def test_a_missing_base_names_what_was_looked_for(tmp_path):
    (tmp_path / "a.yml").write_text("_BASE_: ['../nowhere.yml']\n")
    with pytest.raises(ConfigError, match=r"a\.yml: _BASE_ \.\./nowhere\.yml does not exist"):
        load_with_bases(tmp_path / "a.yml")


def test_a_paddledetection_file_alone_takes_our_bases(tmp_path):
    # PaddleDetection's layout: configs/picodet/X.yml with bases in ../datasets and ../.
    (tmp_path / "mine.yml").write_text(
        "_BASE_: ['../datasets/coco_detection.yml', '../runtime.yml', '_base_/picodet_v2.yml']\n"
        "LCNet: {scale: 0.75}\n"
    )
    config = load_with_bases(tmp_path / "mine.yml")
    assert config["LCNet"] == {"scale": 0.75, "feature_maps": [3, 4, 5]}
    assert config["TrainDataset"].tag == "COCODataSet"
    assert config["snapshot_epoch"] == 1


def test_the_npu_configuration_has_the_published_values(shared):
    import json

    golden = json.loads((shared / "alignment" / "npu_s.json").read_text())["hyperparameters"]
    config = load_detection_config("picodet_s_416_coco_npu.yml")
    assert {**config["LCNet"], "name": "LCNet"} == golden["backbone"]
    assert {**config["CSPPAN"], "name": "CSPPAN"} == golden["neck"]
    assert {**config["PicoHeadV2"], "name": "PicoHeadV2"} == golden["head"]
    assert config["LearningRate"]["base_lr"] == golden["LearningRate"]["base_lr"]
    assert config["OptimizerBuilder"]["regularizer"] == {"type": "L2", "factor": 4e-05}
    for reader in ("TrainReader", "EvalReader"):
        for key, value in golden[reader].items():
            assert config[reader][key] == value, (reader, key)
