"""infer_cfg.yml: PaddleDetection's keys, both ways, and what is wrong with a file."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import yaml

from picoquant.errors import ConfigError, WeightsError
from picoquant.export import InferConfig, read_infer_config, write_infer_config
from picoquant.postprocess import NmsSettings

# What PaddleDetection 2.6's export writes for picodet_s_416_coco_npu.yml with three classes.
PADDLEDETECTION = """
mode: paddle
draw_threshold: 0.5
metric: COCO
use_dynamic_shape: false
arch: GFL
min_subgraph_size: 3
Preprocess:
- interp: 2
  keep_ratio: false
  target_size:
  - 320
  - 416
  type: Resize
- is_scale: true
  mean: [0, 0, 0]
  std: [1, 1, 1]
  type: NormalizeImage
- type: Permute
label_list:
- RBC
- WBC
- Platelets
NMS:
  keep_top_k: 100
  name: MultiClassNMS
  nms_threshold: 0.5
  nms_top_k: 1000
  score_threshold: 0.3
fpn_stride: [8, 16, 32, 64]
"""


def test_reads_paddledetections_file(tmp_path):
    (tmp_path / "infer_cfg.yml").write_text(PADDLEDETECTION)
    config = read_infer_config(tmp_path)
    assert config.input_size == (320, 416)
    assert config.labels == ("RBC", "WBC", "Platelets")
    assert config.nms == NmsSettings(0.3, 0.5, 1000, 100)
    assert (config.interp, config.keep_ratio, config.is_scale) == (2, False, True)
    assert (config.mean, config.std) == ((0, 0, 0), (1, 1, 1))
    assert config.strides == (8, 16, 32, 64) and config.arch == "GFL"


def paddlex() -> str:
    """What PaddleX 3 writes beside inference.pdmodel: keys of its own, too, here with another mean."""
    values = yaml.safe_load(PADDLEDETECTION)
    values["Preprocess"][1].update(mean=[0.485, 0.456, 0.406], norm_type="mean_std")
    shapes = {"trt_dynamic_shapes": {"image": [[1, 3, 320, 416]]}}
    own = {"Global": {"model_name": "PicoDet-S"}, "Hpi": {"backend_configs": {"paddle_infer": shapes}}}
    return yaml.safe_dump({**own, **values})


def test_reads_paddlexs_file_as_paddledetections(tmp_path):
    (tmp_path / "inference.yml").write_text(paddlex())
    config = read_infer_config(tmp_path)
    assert config.mean == (0.485, 0.456, 0.406)
    (tmp_path / "infer_cfg.yml").write_text(PADDLEDETECTION)
    assert replace(config, mean=(0.0, 0.0, 0.0)) == read_infer_config(tmp_path)


@pytest.mark.parametrize(
    ("model", "used"),
    [
        ("model.pdmodel", "infer_cfg.yml"),
        ("inference.pdmodel", "inference.yml"),
        ("inference.onnx", "inference.yml"),
        ("picodet.onnx", "infer_cfg.yml"),
        ("", "infer_cfg.yml"),
    ],
)
def test_of_two_files_the_models_own_is_used_and_said(tmp_path, caplog, model, used):
    (tmp_path / "inference.yml").write_text(paddlex())
    (tmp_path / "infer_cfg.yml").write_text(PADDLEDETECTION)
    with caplog.at_level(logging.INFO, "picoquant"):
        config = read_infer_config(tmp_path, model)
    assert config.mean[0] == (0.485 if used == "inference.yml" else 0)
    assert f"{tmp_path} holds both infer_cfg.yml and inference.yml: {used} is used" in caplog.text


def test_what_is_wrong_in_paddlexs_file_is_named(tmp_path):
    (tmp_path / "inference.yml").write_text("Global: {model_name: PicoDet-S}")
    with pytest.raises(WeightsError, match="inference.yml: Preprocess is missing"):
        read_infer_config(tmp_path)


def test_writes_what_it_reads(tmp_path):
    config = InferConfig(
        (320, 256),
        ("cell: a", "2"),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        interp=1,
        pad_stride=32,
        strides=(8, 16, 32),
        nms=NmsSettings(0.1, 0.7, -1, 50),
        arch="GFL",
    )
    path = write_infer_config(config, tmp_path)
    assert read_infer_config(tmp_path) == config
    keys = yaml.safe_load(path.read_text())
    assert set(keys) == set(yaml.safe_load(PADDLEDETECTION))
    assert [step["type"] for step in keys["Preprocess"]] == [
        "Resize", "NormalizeImage", "Permute", "PadStride",
    ]  # fmt: skip


@pytest.mark.parametrize("fill", [None, (114.0, 0.5, 255.0)])
@pytest.mark.parametrize("padding", ["end", "centre", "start"])
def test_writes_what_it_reads_of_a_letterbox(tmp_path, padding, fill):
    config = InferConfig((320, 256), ("a",), interp=1, keep_ratio=True, padding=padding, fill=fill)
    steps = yaml.safe_load(write_infer_config(config, tmp_path).read_text())["Preprocess"]
    assert read_infer_config(tmp_path) == config
    # PaddleDetection's deployment programs do the steps in their order; they know no pad_mode, and so refuse it.
    order = ["Resize", "NormalizeImage", "Pad"] if fill is None else ["Resize", "Pad", "NormalizeImage"]
    assert [step["type"] for step in steps] == [*order, "Permute"]
    pad = next(step for step in steps if step["type"] == "Pad")
    assert pad["size"] == [320, 256] and pad["fill_value"] == list(fill or (0, 0, 0))
    assert pad.get("pad_mode") == {"end": None, "centre": 1, "start": 2}[padding]


PAD = "- {{type: Pad, {}}}\n- is_scale"


def test_reads_the_padding_of_others():
    def padding(step):
        config = InferConfig.from_mapping(yaml.safe_load(PADDLEDETECTION.replace("- is_scale", step)))
        return config.padding, config.fill

    assert padding(PAD.format("size: [320, 416]")) == ("end", (114, 114, 114))
    assert padding(PAD.format("fill_value: 7")) == ("end", (7, 7, 7))
    assert padding(PAD.format("size: [320, 416], fill_value: [1, 2, 3]")) == ("end", (1, 2, 3))
    box = "Preprocess: [{type: LetterBoxResize, target_size: [320, 416]}, {type: Permute}]\nlabel_list: [a]"
    config = InferConfig.from_mapping(yaml.safe_load(box))
    assert (config.input_size, config.interp, config.keep_ratio) == ((320, 416), 3, True)
    assert (config.padding, config.fill) == ("centre", (128, 128, 128))


@pytest.mark.parametrize(
    ("new", "said"),
    [
        (
            PAD.format("size: [416, 416]"),
            r"Preprocess Pad: size is \[416, 416\], target_size of Resize \[320, 416\]",
        ),
        (PAD.format("size: 320"), "Preprocess Pad: size is 320, target_size"),
        (PAD.format("pad_mode: -1"), "Preprocess Pad: pad_mode is -1: 0, 1 or 2 expected"),
        (PAD.format("fill_value: grey"), "Preprocess Pad: fill_value is .*: numbers expected"),
        (PAD.format("fill_value: [1, 2]"), r"fill_value is \[1.0, 2.0\]: three numbers expected"),
        (
            "- {type: LetterBoxResize, target_size: 3}\n- is_scale",
            "LetterBoxResize beside Resize or Pad: leave",
        ),
    ],
)
def test_padding_that_is_not_known(new, said):
    with pytest.raises(WeightsError, match=said):
        InferConfig.from_mapping(yaml.safe_load(PADDLEDETECTION.replace("- is_scale", new)))
    late = PADDLEDETECTION.replace("- type: Permute", "- {type: Pad, fill_value: [1, 1, 1]}\n- type: Permute")
    with pytest.raises(WeightsError, match="stands behind NormalizeImage, where only fill_value 0 is known"):
        InferConfig.from_mapping(yaml.safe_load(late))


def test_norm_type_none_leaves_mean_and_std_unused():
    values = yaml.safe_load(PADDLEDETECTION)
    values["Preprocess"][1] = {"type": "NormalizeImage", "norm_type": "none", "is_scale": True}
    config = InferConfig.from_mapping(values)
    assert (config.mean, config.std, config.is_scale) == ((0, 0, 0), (1, 1, 1), True)


def test_a_folder_without_it_is_told_what_is_needed(tmp_path):
    with pytest.raises(WeightsError, match=r"infer_cfg\.yml is missing.*target_size.*label_list"):
        read_infer_config(tmp_path)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"Preprocess": [{"type": "Permute"}]}, "no Resize"),
        ({"Preprocess": [{"type": "WarpAffine"}]}, "WarpAffine"),
        ({"Preprocess": [{"type": {}}]}, "steps with a type, found {'type': {}}"),
        ({"Preprocess": ["Resize"]}, "steps with a type, found 'Resize'"),
        ({"Preprocess": [{"type": "Resize"}]}, "target_size is missing"),
        ({"Preprocess": [{"type": "Resize", "target_size": [0, 3]}]}, r"target_size is \[0, 3\]"),
        ({"label_list": None}, "label_list is missing"),
        ({"label_list": []}, "label_list is empty"),
        ({"fpn_stride": 8}, "fpn_stride is no list: found 8"),
        ({"NMS": {"nms_threshold": 3}}, "nms_threshold is 3"),
        ({"NMS": ["MultiClassNMS"]}, "NMS is no mapping: found"),
        (
            {
                "Preprocess": [
                    {"type": "Resize", "target_size": [320, 320]},
                    {"type": "NormalizeImage", "mean": ["0.0 .", 0, 0], "std": [1, 1, 1]},
                ]
            },
            r"Preprocess NormalizeImage: mean is \['0.0 .', 0, 0\]: numbers expected",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path, change, message):
    (tmp_path / "infer_cfg.yml").write_text(yaml.safe_dump({**yaml.safe_load(PADDLEDETECTION), **change}))
    with pytest.raises(WeightsError, match=f"infer_cfg.yml.*{message}"):
        read_infer_config(tmp_path)


def test_text_that_is_no_yaml(tmp_path):
    (tmp_path / "infer_cfg.yml").write_text("a: [1")
    with pytest.raises(WeightsError, match=r"infer_cfg\.yml.*not valid YAML"):
        read_infer_config(tmp_path)


def test_settings_of_ours_that_do_not_fit():
    with pytest.raises(ConfigError, match="std"):
        InferConfig((32, 32), ("a",), std=(1, 0, 1))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("is_scale: true", "is_scale: 'false'", "NormalizeImage: is_scale is 'false': true or false expected"),
        ("is_scale: true", "is_scale: 2", "is_scale is 2: true or false expected"),
        ("keep_ratio: false", "keep_ratio: 'no'", "Preprocess Resize: keep_ratio is 'no': true or false expected"),
        ("- type: Permute", "- {type: Resize, target_size: [640, 640]}", "Preprocess has Resize twice: leave the one"),
    ],
)  # fmt: skip
def test_texts_are_no_flags_and_a_step_is_there_once(old, new, said):
    with pytest.raises(WeightsError, match=said):
        InferConfig.from_mapping(yaml.safe_load(PADDLEDETECTION.replace(old, new)))
    one = InferConfig.from_mapping(yaml.safe_load(PADDLEDETECTION.replace("is_scale: true", "is_scale: 0")))
    assert one.is_scale is False
