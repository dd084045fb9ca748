"""A recipe's sections are parsed once, when they are first used, and say what stages were given before."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from picoquant.config.detector import parse_detector
from picoquant.config.recipe import Recipe
from picoquant.errors import ConfigError
from picoquant.stages import train
from picoquant.stages.plan import Plan, load_plan
from picoquant.stages.stage import Context
from picoquant.storage.run_folder import fingerprint

NO_DATA = ["TrainDataset.dataset_dir=nowhere", "EvalDataset.dataset_dir=nowhere", "Synthetic=null"]
PARSED = (
    "common", "detector", "train_dataset", "eval_dataset", "train_reader", "eval_reader", "preprocessing",
    "training", "calibration", "targets", "quant_aware", "quantization",
)  # fmt: skip


class Counting(dict):
    """A recipe's document that counts how often each section is looked up."""

    def __init__(self, document):
        super().__init__(document)
        self.read = {}

    def get(self, key, default=None):
        self.read[key] = self.read.get(key, 0) + 1
        return super().get(key, default)


def test_every_section_is_parsed_once_whoever_asks():
    document = Counting(load_plan("picodet_s_qat_dis").recipe.document)
    plan = Plan(Recipe(document, "test"))
    first = {name: getattr(plan, name) for name in PARSED}
    read = dict(document.read)
    assert all(getattr(plan, name) is first[name] for name in PARSED)
    assert document.read == read
    for section in ("TrainDataset", "EvalDataset", "TrainReader", "EvalReader", "Global", "Calibration"):
        assert read[section] == 1, section
    assert plan.nms is plan.detector.nms and plan.quantization.quant_aware is plan.quant_aware


def test_what_is_not_used_may_be_wrong_or_absent():
    plan = load_plan(
        "picodet_s_qat_dis", ["LearningRate=7", "Quantize.patience=-1", "Global.input_size=[96,64]"]
    )
    assert (plan.input_size, plan.export_kind, plan.synthetic) == ((96, 64), "raw", None)
    with pytest.raises(ConfigError, match="LearningRate: expected keys and values"):
        _ = plan.training
    with pytest.raises(ConfigError, match="Quantize.patience"):
        plan.check()
    assert Plan(Recipe({}, "test")).common.seed == 0


def test_the_network_for_a_data_sets_classes():
    plan = load_plan("picodet_s_qat_dis")
    assert plan.detector.num_classes == 80
    assert (
        plan.detector_for(3)
        == parse_detector(plan.recipe.document, 3)
        == replace(plan.detector, num_classes=3)
    )


def test_an_export_describes_itself_as_the_reader_makes_its_input():
    plan = load_plan("picodet_s_320_coco")
    config = plan.infer_config(("cat", "dog"), "GFL")
    assert (config.labels, config.arch, config.input_size) == (("cat", "dog"), "GFL", (320, 320))
    assert (config.strides, config.interp, config.keep_ratio) == ((8, 16, 32, 64), 2, False)
    assert config.mean == (0.485, 0.456, 0.406) and config.nms == plan.nms
    # An exported model's own preprocessing wins over the recipe's.
    other = plan.eval_reader_of(replace(config, input_size=(64, 96), interp=1))
    resize = other.sample_transforms[1]
    assert dict(resize.params) == {"target_size": [64, 96], "interp": 1, "keep_ratio": False}
    assert other.batch_size == plan.eval_reader.batch_size


# What `run.json` held before there was a plan: a run made then goes on, and is not made again.
FINGERPRINTS = {
    "picodet_s_qat_dis": (
        "2d92d45333f52175a6d0dc1e9bf28ee06ee9acd200d6f2b9122373bd5be134f7",
        "f7bbb81d98d87ae436a92a61a1cb56698710796e20b20946e53f744288737f56",
    ),
    "quickstart": (
        "4bb5515eed86ee9933c98c7a0c76e9c8b664e559e28b3c97453ba24cf102a7e4",
        "217adb2ac0192077fb5c31a3f226d45f0b2044b178b9ffbfe1ec9fc1f0a71bcf",
    ),
}


@pytest.mark.parametrize("name", FINGERPRINTS)
def test_inputs_of_stages_are_what_they_were(name):
    plan = load_plan(name, NO_DATA)
    sections = plan.quantization
    quantization = [
        asdict(settings)
        for settings in (sections.distillation, sections.quant_aware, sections.train, sections.own)
    ]
    inputs = train.STAGE.inputs(Context(plan, None, "cpu"))
    assert ("sha256 of pretrain_weights" in inputs) == (name == "quickstart")
    inputs.pop("sha256 of pretrain_weights", None)  # another one after each `make quickstart-weights`
    found = (inputs, quantization)
    as_stored = [json.loads(json.dumps(value, default=str)) for value in found]
    assert tuple(map(fingerprint, as_stored)) == FINGERPRINTS[name]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Calibration.images=16", "Calibration.images: expected train or val, found 16"),
        ("Calibration=nowhere", "no file nowhere here"),
        ("Package.batch=0", "Package.batch: expected 1 to"),
    ],
)
def test_what_a_late_stage_would_refuse_is_refused_before_the_first(text, said):
    plan = load_plan("quickstart", [text])
    with pytest.raises(ConfigError, match=said):
        plan.check()
