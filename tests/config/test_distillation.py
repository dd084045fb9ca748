"""A teacher, named in a recipe or in PaddleDetection's file for `--slim_config`."""

from __future__ import annotations

import json
import logging

import pytest

from picoquant.config.slim import ends_with_quantize, slim_overrides
from picoquant.errors import ConfigError
from picoquant.stages.plan import load_plan
from picoquant.training.distillation.settings import FgdSettings, KdSettings, LdSettings
from tests.command_line import picoquant, refusal

# picodet_lcnet_x2_5_layout.yml, keys and values as they stand in PaddleDetection, not its text.
LAYOUT = """
_BASE_: ['../../_base_/picodet_esnet.yml']
pretrain_weights: https://example.org/LCNet_x2_5_ssld_pretrained.pdparams
weights: output/picodet_lcnet_x2_5_layout/model_final
find_unused_parameters: True
PicoDet: {backbone: LCNet, neck: CSPPAN, head: PicoHead, nms_cpu: True}
LCNet: {scale: 2.5, feature_maps: [3, 4, 5]}
CSPPAN: {spatial_scales: [0.125, 0.0625, 0.03125]}
slim: Distill
slim_method: FGD
distill_loss: FGDFeatureLoss
distill_loss_name: ['neck_f_3', 'neck_f_2', 'neck_f_1', 'neck_f_0']
FGDFeatureLoss: {student_channels: 128, teacher_channels: 128, temp: 0.5, alpha_fgd: 0.001, beta_fgd: 0.0005,
  gamma_fgd: 0.0005, lambda_fgd: 0.000005}
"""
LD = "_BASE_: picodet_l_320_coco_lcnet.yml\nslim: Distill\nslim_method: LD\npretrain_weights: l.pdparams\n"


@pytest.fixture
def plan_of(tmp_path):
    def plan(text, *typed, student="picodet_lcnet_x1_0_layout"):
        (tmp_path / "slim.yml").write_text(text)
        texts = [*slim_overrides(str(tmp_path / "slim.yml"), typed), *typed]
        return load_plan(student, texts)

    return plan


def test_the_layout_models_file(plan_of, tmp_path, caplog):
    caplog.set_level(logging.INFO, "picoquant")
    plan = plan_of(LAYOUT)
    teacher = plan.teacher
    assert teacher.detector.backbone.scale == 2.5 and plan.detector.backbone.scale == 1.0
    assert teacher.detector.neck == plan.detector.neck and teacher.run is None
    assert teacher.weights == "https://example.org/LCNet_x2_5_ssld_pretrained.pdparams"
    assert teacher.what.fgd == FgdSettings(128, 128, gamma_fgd=0.0005)
    assert (teacher.what.levels, teacher.what.ld, teacher.what.kd) == ((0, 1, 2, 3), None, None)
    assert plan.pretrain_weights.endswith("LCNet_x1_0_pretrained.pdparams")  # the student's own
    assert plan.teachers_images(teacher) == ((1.0,) * 3, (0.0,) * 3)
    assert plan.common.weights is None and not ends_with_quantize(str(tmp_path / "slim.yml"))
    line = next(line for line in caplog.messages if "Distill of PaddleDetection's" in line)
    assert 'Train.distillation={"FGD": {"student_channels": 128' in line and "not read" not in line


def test_a_file_for_outputs_and_one_without_a_detector(plan_of, caplog):
    caplog.set_level(logging.INFO, "picoquant")
    plan = plan_of(LD + "epoch: 3\nTrainReader: {batch_size: 2}\n", student="picodet_m_320_coco_lcnet")
    assert (plan.teacher.what.ld, plan.teacher.what.kd) == (LdSettings(), KdSettings())
    assert plan.training.epochs == 300
    assert "not read: epoch, TrainReader (the student's file says that)" in caplog.text
    own = "slim: Distill\nslim_method: LD\npretrain_weights: l.pdparams\nLCNet: {scale: 2.0}\n"
    own += "KnowledgeDistillationKLDivLoss: {loss_weight: 0.5, T: 4}\n"
    plan = plan_of(own, student="picodet_m_320_coco_lcnet")  # laid on the student's, as in PaddleDetection
    assert (plan.teacher.detector.backbone.scale, plan.detector.backbone.scale) == (2.0, 1.5)
    assert plan.teacher.what.ld == LdSettings(0.5, 4)


def test_one_line_in_a_recipe():
    texts = ["Train.teacher=picodet_l_416_coco_lcnet", "Train.teacher_weights=l.pdparams"]
    plan = load_plan("picodet_s_416_coco_npu", texts)
    teacher = plan.teacher
    assert (teacher.what.ld, teacher.what.kd, teacher.what.fgd) == (LdSettings(), KdSettings(), None)
    # The student's pixels are divided by 255 alone, the teacher's normalised besides: (x - mean) / std.
    scale, shift = plan.teachers_images(teacher)
    assert scale == pytest.approx((1 / 0.229, 1 / 0.224, 1 / 0.225))
    assert shift == pytest.approx((-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225))
    both = load_plan("picodet_s_416_coco_npu", [*texts, "Train.distillation={FGD: {temp: 1}, LD: {}}"])
    assert both.teacher.what.fgd == FgdSettings(temp=1) and both.teacher.what.kd is None
    assert load_plan("picodet_s_416_coco_npu").teacher is None


def test_what_is_typed_wins_over_the_file(plan_of):
    typed = ("Train.teacher_weights=mine.pdparams", "Train.distillation.FGD.temp=2")
    teacher = plan_of(LAYOUT, *typed).teacher
    assert teacher.weights == "mine.pdparams" and teacher.what.fgd.temp == 2


def test_a_run_folder(tmp_path):
    run = tmp_path / "large"
    (run / "train").mkdir(parents=True)
    (run / "config.yml").write_text("_BASE_: picodet_m_416_coco_lcnet.yml\n")
    with pytest.raises(ConfigError, match="has no train/best.pdparams, so it is no run folder"):
        _ = load_plan("picodet_s_416_coco_lcnet", [f"Train.teacher={run}"]).teacher
    (run / "train/best.pdparams").write_bytes(b"")
    teacher = load_plan("picodet_s_416_coco_lcnet", [f"Train.teacher={run}"]).teacher
    assert teacher.run == run and teacher.weights == str(run / "train/best.pdparams")
    assert teacher.detector.backbone.scale == 1.5


@pytest.mark.parametrize(
    ("texts", "error"),
    [
        (["Train.teacher=picodet_l_416_coco_lcnet"], "Train.teacher_weights must name its trained weights"),
        (["Train.teacher_weights=l.pdparams"], "is set without Train.teacher"),
        (["Train.distillation=FGD"], "is set without Train.teacher"),
        (["Train.teacher=3"], "expected a name or a path, found 3"),
        (["Train.teacher=picodet_k"], "no file picodet_k here"),
        (["Train.distillation=LDD"], r"'LDD' is not supported \(did you mean LD\?\); known: FGD, LD, KD"),
        (["Train.distillation={levels: [0]}"], "expected one of FGD, LD, KD or several"),
        (["Train.distillation={FGD: {}, levels: [0, 0]}"], "different whole numbers from 0"),
        (["Train.distillation={FGD: {}, levels: [4]}"], "neck_f_4 is no level of a neck with 4"),
        (["Train.distillation={LD: {T: 0}}"], "LD.T: expected a number above 0, found 0"),
        (["Train.distillation={FGD: {normalize: 1}}"], "FGD.normalize must be true or false, not 1"),
        (["Train.distillation={KD: {alpha: 1}}"], "unknown key alpha"),
        (["Train.distillation={KD: {beta: x}}"], "KD.beta: expected a number of 0 or more, found 'x'"),
        (
            ["Train.distillation={FGD: {student_channels: 96.5}}"],
            "expected a whole number from 1, found 96.5",
        ),
        (
            ["Train.distillation={FGD: {teacher_channels: 128}}"],
            "128, but the teacher's neck gives 160 channels",
        ),
        (["PicoHeadV2.reg_max=9"], r"its largest distance is 7 and the student's 9 \(reg_max of the head\)"),
        (["PicoHeadV2.cell_offset=0"], r"place of an anchor point in its cell is 0.5 and the student's 0 "),
        (["Train.teacher=picodet_m_shufflenetv2_416_coco"], r"strides of the levels is \[8, 16, 32\]"),
    ],
)
def test_what_does_not_fit(texts, error):
    named = any(text.startswith("Train.teacher") for text in texts) or "without" in error
    start = [] if named else ["Train.teacher=picodet_l_416_coco_lcnet", "Train.teacher_weights=l.pdparams"]
    if texts[0].startswith("Train.teacher=picodet_m_sh"):
        start = ["Train.teacher_weights=m.pdparams"]
    with pytest.raises(ConfigError, match=error) as found:
        _ = load_plan("picodet_s_416_coco_lcnet", [*start, *texts]).teacher
    assert "\n" not in str(found.value)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("slim_method: FGD", "slim_method: CWD", "slim_method: 'CWD' is not supported, only FGD and LD"),
        ("slim_method: FGD", "", "slim_method: None is not supported"),
        ("distill_loss: FGDFeatureLoss", "distill_loss: MGDFeatureLoss", "'MGDFeatureLoss' is not supported with FGD"),
        ("'neck_f_0'", "'body_f_0'", "distill_loss_name: expected a list such as"),
        ("temp: 0.5", "temperature: 0.5", "FGDFeatureLoss: unknown key temperature"),
        ("temp: 0.5", "temp: -1", "temp: expected a number above 0, found -1"),
        ("student_channels: 128", "student_channels: 96", "96, but the student's neck gives 128 channels"),
        ("pretrain_weights: https", "weights: https", "pretrain_weights names no weights of the teacher"),
        ("CSPPAN:", "CSPPANN:", "unknown key CSPPANN"),
        ("FGDFeatureLoss: {student_channels: 128", "FGDFeatureLoss: [3]\nx: {a: 1", "x"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file(plan_of, old, new, error):
    with pytest.raises(ConfigError, match=error):
        _ = plan_of(LAYOUT.replace(old, new)).teacher


def test_the_command_says_first_what_is_missing(tmp_path):
    (tmp_path / "slim.yml").write_text(LAYOUT.replace("https://example.org/", "gone/"))
    done = picoquant(
        "train", "-c", "picodet_lcnet_x1_0_layout", "--slim_config", tmp_path / "slim.yml",
        "--save-dir", tmp_path / "run", "-o", "pretrain_weights=null", "Synthetic={train_images: 4, val_images: 2}",
        "TrainDataset=", "EvalDataset=",
    )  # fmt: skip
    assert "no weights at gone/LCNet_x2_5_ssld_pretrained.pdparams" in refusal(done)
    assert "Train.teacher_weights names those of the teacher" in done.stderr


def test_a_settings_mapping_survives_the_run_folder(plan_of):
    text = json.dumps(plan_of(LAYOUT).recipe.document["Train"]["distillation"])
    assert load_plan("picodet_lcnet_x1_0_layout", [
        "Train.teacher=picodet_lcnet_x2_5_layout", "Train.teacher_weights=l.pdparams", f"Train.distillation={text}",
    ]).teacher.what == plan_of(LAYOUT).teacher.what  # fmt: skip
