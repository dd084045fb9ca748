"""Values that Python would take for something else without a word, and keys of which PaddleDetection takes another."""

from __future__ import annotations

import logging

import pytest

from picoquant.detector.build import build_picodet
from picoquant.errors import ConfigError, UserError
from picoquant.stages.plan import load_plan

NPU = "picodet_s_416_coco_npu"
LCNET = "picodet_s_320_coco_lcnet"
STEPS = "{{Decode: {{}}}}, {{Resize: {{interp: 2, target_size: [320, 320], keep_ratio: false}}}}, {}, {{Permute: {{}}}}"
NORMAL = "{NormalizeImage: {is_scale: true, mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225]}}"


def reader(step, section="EvalReader"):
    return f"{section}.sample_transforms=[{STEPS.format(step)}]"


def parsed(*sets, name=LCNET):
    plan = load_plan(name, sets)
    return (
        plan,
        plan.common,
        plan.training,
        plan.eval_reader,
        plan.preprocessing,
        plan.quantization,
        plan.detector,
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("use_ema='false'", "use_ema: expected true or false, found 'false'"),
        ("sync_bn='no'", "sync_bn: expected true or false, found 'no'"),
        ("ema_filter_no_grad='false'", "ema.filter_no_grad must be true or false, not 'false'"),
        ("export.post_process='false'", "export.post_process must be true or false, not 'false'"),
        ("export.nms='no'", "export.nms must be true or false, not 'no'"),
        ("export.benchmark=0", "export.benchmark must be true or false, not 0"),
        ("Global.Evaluation='false'", "Global.Evaluation must be true or false, not 'false'"),
        ("Global.include_nms=null", "Global.include_nms must be true or false, not None"),
        ("OptimizerBuilder.optimizer.use_nesterov='false'", "use_nesterov must be true or false, not 'false'"),
        ("LCPAN.use_depthwise='false'", "LCPAN.use_depthwise must be true or false, not 'false'"),
        ("PicoHeadV2.use_align_head=0", "PicoHeadV2.use_align_head must be true or false, not 0"),
        ("Calibration.count=true", "Calibration.count must be a number, not True"),
        ("Synthetic.train_images=true", "Synthetic.train_images must be a number, not True"),
    ],
)  # fmt: skip
def test_a_text_is_not_true_and_true_is_not_1(text, said):
    with pytest.raises(ConfigError, match=said):
        plan = parsed(text)[0]
        _ = plan.calibration, plan.synthetic


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["PicoHeadV2.num_classes=3"], "PicoHeadV2.num_classes is 3 and num_classes 80: set the latter"),
        (
            [reader("{RandomFlip: {}}")],
            "EvalReader: RandomFlip changes images at random, and boxes are counted",
        ),
        (
            ["EvalReader.batch_transforms=[{BatchRandomResize: {target_size: [320], keep_ratio: false}}]"],
            "BatchRandomResize changes",
        ),
        (
            [reader("{Resize: {target_size: [416, 416], keep_ratio: false}}")],
            "EvalReader: more than one Resize",
        ),
        ([reader(f"{NORMAL}, {NORMAL}")], "EvalReader: more than one NormalizeImage"),
    ],
)
def test_what_paddledetection_would_take_is_refused_by_name(sets, said):
    with pytest.raises(ConfigError, match=said):
        parsed(*sets)


def test_one_number_of_classes_at_both_places():
    assert parsed("PicoHeadV2.num_classes=3", "num_classes=3")[-1].num_classes == 3


@pytest.mark.parametrize(
    ("step", "mean", "std", "is_scale"),
    [
        (NORMAL, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), True),
        ("{NormalizeImage: {mean: [9, 8, 7], std: [2, 3, 4], is_scale: false}}", (9, 8, 7), (2, 3, 4), False),
        ("{NormalizeImage: {norm_type: none}}", (0, 0, 0), (1, 1, 1), True),
        ("{NormalizeImage: {norm_type: none, is_scale: false}}", (0, 0, 0), (1, 1, 1), False),
        ("Permute", (0, 0, 0), (1, 1, 1), False),  # no NormalizeImage: pixels as they are
    ],
)
def test_an_export_says_what_the_evaluation_reader_does(step, mean, std, is_scale):
    found = load_plan(LCNET, [reader(step)]).infer_config(["a"])
    assert (found.mean, found.std, found.is_scale) == (mean, std, is_scale)


@pytest.mark.parametrize(
    ("mean", "scaled", "said"),
    [
        ("[123.675, 116.28, 103.53]", "true", "is_scale is true, so that pixels are 0 to 1, and the mean"),
        ("[0.485, 0.456, 0.406]", "false", "is_scale is false, so that pixels are 0 to 255, and the mean"),
        ("[0.485, 0.456, 0.406]", "true", ""),
        ("[123.675, 116.28, 103.53]", "false", ""),
        ("[0, 0, 0]", "false", ""),
        ("[0, 0, 0]", "true", ""),
    ],
)
def test_a_mean_of_other_values_is_said(caplog, mean, scaled, said):
    caplog.set_level(logging.WARNING)
    _ = load_plan(LCNET, [reader(f"{{NormalizeImage: {{mean: {mean}, is_scale: {scaled}}}}}")]).eval_reader
    assert bool(caplog.messages) == bool(said) and said in caplog.text


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        ([reader("{NormalizeImage: {mean: [0, 0, 0]}}", "TestReader")], "NormalizeImage is {'mean': [0, 0, 0]}, Ev"),
        ([reader("Permute", "TestReader")], "NormalizeImage is absent, EvalReader's {"),
        ([reader(NORMAL, "TestReader").replace("interp: 2", "interp: 1")], "Resize is {'interp': 1, "),
        (["TestReader.fuse_normalize=true"], "TestReader.fuse_normalize: accepted, but without effect here"),
        ([reader(NORMAL, "TestReader").replace("320, 320", "416, 416")], ""),  # `export_size` says that
        (["TestReader=null"], ""),
    ],
)  # fmt: skip
def test_a_test_reader_that_does_otherwise_is_said(caplog, sets, said):
    caplog.set_level(logging.WARNING)
    plan = load_plan(LCNET, sets)
    assert plan.infer_config(["a"]).mean == pytest.approx((0.485, 0.456, 0.406))
    assert bool(caplog.messages) == bool(said) and said in caplog.text


def test_the_metric_of_paddlexs_face_detector_is_said_to_be_cocos(tmp_path, caplog):
    (tmp_path / "my.yml").write_text(f"_BASE_: {LCNET}.yml\nmetric: WiderFace\n")
    assert load_plan(str(tmp_path / "my.yml")).voc is False
    assert "metric: WiderFace: accepted, but without effect here; COCO's mAP is measured" in caplog.text


@pytest.mark.parametrize(
    ("sets", "stride"), [(["PicoHeadV2.fpn_stride=[4,8,16,32]"], 4), (["LCNet.feature_maps=[2,3,4]"], 8)]
)
def test_strides_that_the_levels_do_not_have(sets, stride):
    import paddle

    detector = build_picodet(load_plan(LCNET, sets).detector)
    with pytest.raises(
        UserError, match=f"fpn_stride of the head has {stride}, but that level is .* for an input of 64"
    ):
        detector(paddle.zeros([1, 3, 64, 64]))
