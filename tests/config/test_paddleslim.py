"""Compression examples of PaddleSlim and PaddleDetection: PicoDet's are understood, the others refused by name."""

from __future__ import annotations

import logging

import pytest

from picoquant.errors import ConfigError
from picoquant.stages.plan import load_plan

# Keys of the examples, with `model_dir` and `arch` as they have them.
QAT = """
Global: {{reader_config: reader.yml, include_nms: true, Evaluation: true, {names},
  model_filename: model.pdmodel, params_filename: model.pdiparams}}
Distillation: {{alpha: 1.0, loss: l2}}
QuantAware: {{use_pact: true, activation_quantize_type: {kind}, quantize_op_types: [conv2d]}}
TrainConfig: {{train_iter: 30, eval_iter: 10, learning_rate: 0.0001}}
"""
READER = """
metric: COCO
num_classes: 80
EvalDataset: !COCODataSet {image_dir: val, anno_path: val.json, dataset_dir: set}
TrainDataset: !COCODataSet {image_dir: val, anno_path: val.json, dataset_dir: set}
EvalReader:
  sample_transforms:
  - Decode: {}
  - Resize: {interp: 2, target_size: [320, 320], keep_ratio: false}
  - NormalizeImage: {is_scale: true, mean: [0, 0, 0], std: [1, 1, 1]}
  - Permute: {}
  batch_size: 32
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reader.yml").write_text(READER)
    return tmp_path


@pytest.mark.parametrize(
    "name", ["./picodet_s_416_coco_npu/", "./models/picodet_s_320_coco_lcnet/", "exported", "nodino"]
)
def test_picodets_are_understood(folder, name):
    (folder / "my.yaml").write_text(QAT.format(names=f"model_dir: {name}", kind="moving_average_abs_max"))
    plan = load_plan("my.yaml")
    assert plan.common.model_dir == name and plan.quantization.train.train_iter == 30
    assert plan.eval_reader.batch_size == 32 and plan.export_size[0] == (320, 320)


@pytest.mark.parametrize(
    ("names", "detector"),
    [
        ("arch: PPYOLOE, model_dir: ./some", "Global.arch: PPYOLOE is PP-YOLOE"),
        ("model_dir: ./ppyoloe_plus_crn_l_80e_coco", "ppyoloe_plus_crn_l_80e_coco is PP-YOLOE"),
        ("model_dir: ./yolov8_s_500e_coco_trt_nms/", "yolov8_s_500e_coco_trt_nms/ is YOLO,"),
        ("model_dir: ./yolox_s", "is YOLOX,"),
        ("model_dir: ./models/rtdetr_hgnetv2_l_6x_coco/", "is RT-DETR,"),
        ("model_dir: ./dino_r50_4scale_1x_coco", "is DINO,"),
        ("model_dir: ./ssd_mobilenet_v1_300_120e_voc", "is SSD,"),
        ("arch: keypoint, model_dir: ./tinypose_256x192", "is a keypoint network,"),
        ("model_dir: faster_rcnn_r50", "is R-CNN,"),
    ],
)
def test_other_detectors_are_refused_by_name_before_their_readers_are_read(folder, names, detector):
    (folder / "reader.yml").write_text("EvalReader: {sample_transforms: [Unknown: {}]\n")  # not even YAML
    (folder / "my.yaml").write_text(QAT.format(names=names, kind="range_abs_max"))
    with pytest.raises(ConfigError) as raised:
        load_plan("my.yaml")
    assert detector in str(raised.value) and "picoquant quantises PicoDet only" in str(raised.value)


def test_a_file_for_ptq_names_its_model_outside_of_global(folder, caplog):
    caplog.set_level(logging.INFO)
    text = "input_list: ['image', 'scale_factor']\nmodel_dir: ./picodet/\nmodel_filename: a.pdmodel\n"
    text += "params_filename: a.pdiparams\nskip_tensor_list: [conv2d_9.w_0, conv2d_7.w_0]\nPTQ: {batch_size: 10}\n"
    (folder / "ptq.yaml").write_text(text + READER)
    plan = load_plan("ptq.yaml")
    common = plan.common
    assert (common.model_dir, common.model_filename, common.params_filename) == (
        "./picodet/",
        "a.pdmodel",
        "a.pdiparams",
    )
    assert plan.quantization.own.method == "ptq" and plan.eval_reader.batch_size == 32
    said = "\n".join(caplog.messages)
    assert "skip_tensor_list: 2 weights are quantised all the same" in said
    assert "Quantize.method is ptq; not read: input_list, skip_tensor_list, PTQ" in said


def test_a_file_for_ptq_of_another_detector(folder):
    (folder / "ptq.yaml").write_text("arch: PPYOLOE\nmodel_dir: ./x\n" + READER)
    with pytest.raises(ConfigError, match="ptq.yaml: arch: PPYOLOE is PP-YOLOE"):
        load_plan("ptq.yaml")
