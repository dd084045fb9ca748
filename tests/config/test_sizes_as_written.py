"""`Global.input_size` beside sizes that readers name: which hold, which follow, and what is refused."""

from __future__ import annotations

import pytest

from picoquant.errors import ConfigError
from picoquant.stages.plan import load_plan
from picoquant.yaml_files.load import dump_yaml

BASE = "_BASE_: picodet_s_416_coco_npu.yml\n"
SIZE = "Global: {input_size: [320, 320]}\n"
TRAIN = """
TrainReader:
  batch_transforms:
  - BatchRandomResize: {target_size: %s, random_size: true, random_interp: true, keep_ratio: false}
  - NormalizeImage: {mean: [0, 0, 0], std: [1, 1, 1], is_scale: true}
  - Permute: {}
  - PadGT: {}
"""
EVAL = """
EvalReader:
  sample_transforms:
  - Decode: {}
  - Resize: {interp: 2, target_size: [416, 416], keep_ratio: false}
  - NormalizeImage: {mean: [0, 0, 0], std: [1, 1, 1], is_scale: true}
  - Permute: {}
"""
TYPED = "TrainReader.batch_transforms.0.BatchRandomResize.target_size=%s"


def drawn(plan) -> list[int]:
    """The sides of the squares that training draws from."""
    named = plan.train_reader.batch_transforms[0].params["target_size"]
    return [side if isinstance(side, int) else side[0] for side in named]


def mosaic(plan) -> list[int]:
    return plan.train_reader.sample_transforms[1].params["input_dim"]


@pytest.fixture
def plan(tmp_path):
    def made(text, *sets, name="own.yml"):
        (tmp_path / name).write_text(text)
        return load_plan(str(tmp_path / name), sets)

    return made


def test_sizes_below_the_input_size_follow_it(plan):
    own = plan(BASE + SIZE)
    assert drawn(own) == [256, 288, 320, 352, 384] and mosaic(own) == [480, 480]
    assert own.eval_reader.preparation.size == own.input_size == (320, 320)
    assert drawn(plan(BASE + TRAIN % [288, 320, 416], "Global.input_size=320")) == [288, 320, 416]
    assert drawn(plan(BASE + TRAIN % [288, 320, 416], "Global.input_size=416")) == [384, 416, 512]
    below = plan(BASE + TRAIN % [352, 384, 416, 448, 480] + EVAL, name="below.yml")
    assert drawn(below) == [352, 384, 416, 448, 480]
    above = plan("_BASE_: below.yml\n" + SIZE)
    assert (drawn(above), above.eval_reader.preparation.size) == ([288, 320, 352], (320, 320))
    detector = plan(SIZE.replace("{", "{config: below.yml, "))
    assert (drawn(detector), detector.eval_reader.preparation.size) == ([288, 320, 352], (320, 320))


def test_sizes_beside_the_input_size_hold(plan):
    own = plan(BASE + SIZE + TRAIN % [288, 320, 416])
    assert drawn(own) == [288, 320, 416]
    assert mosaic(own) == [480, 480]  # made for the 416 of the file below: 640 * 320 / 416 = 492
    assert own.eval_reader.preparation.size == (320, 320)
    plan(BASE + SIZE, name="below.yml")
    assert drawn(plan("_BASE_: below.yml\n" + TRAIN % [288, 320, 416])) == [288, 320, 416]
    assert drawn(plan(BASE + SIZE + TRAIN % [288, 320, 416], "Global.input_size=416")) == [384, 416, 512]


def test_sizes_of_the_command_hold(plan):
    own = plan(BASE + SIZE, TYPED % [256, 320])
    assert drawn(own) == [256, 320] and mosaic(own) == [480, 480]
    assert drawn(plan(BASE, TYPED % [256, 320], "Global.input_size=256")) == [256, 320]
    assert drawn(plan(BASE + SIZE, TYPED % [256, 320], "Global.input_size=null")) == [256, 320]


@pytest.mark.parametrize(
    ("text", "sets", "named"),
    [
        (BASE + SIZE + TRAIN % [352, 416], (), "TrainReader: its transforms name 352x352 to 416x416"),
        (BASE + SIZE, (TYPED % [448, 480],), "TrainReader: its transforms name 448x448 to 480x480"),
        (BASE + SIZE + TRAIN % [[256, 416]], (), "TrainReader: its transforms name 256x416"),
        (BASE, (TYPED % [224], "Global.input_size=320"), "TrainReader: its transforms name 224x224"),
        (BASE + SIZE + EVAL, (), "EvalReader: its transforms name 416x416"),
        (
            BASE + SIZE,
            ("EvalReader.sample_transforms.1.Resize.target_size=[352,320]",),
            "EvalReader: its transforms name 352x320",
        ),
    ],
)
def test_sizes_of_another_input_are_refused(plan, text, sets, named):
    own = plan(text, *sets)
    with pytest.raises(ConfigError) as caught:
        _ = own.train_reader, own.eval_reader
    assert str(caught.value).startswith(f"{named} where Global.input_size is 320x320")


@pytest.mark.parametrize(
    ("text", "sets"),
    [
        (BASE + SIZE, ()),
        (BASE, ("Global.input_size=160",)),
        (BASE + SIZE + TRAIN % [288, 320, 416], ()),
        (BASE + SIZE, (TYPED % [256, 320],)),
        ("_BASE_: legacy_2021_08/picodet_m_mbv3_320_coco.yml\nGlobal: {input_size: 416}\n", ()),
    ],
)
def test_what_a_run_folder_keeps_is_what_was_used(plan, text, sets):
    first = plan(text, *sets)
    again = plan(dump_yaml(first.document), name="config.yml")
    assert repr(again.train_reader) == repr(first.train_reader)
    assert repr(again.eval_reader) == repr(first.eval_reader)
    assert again.detector == first.detector and again.document == first.document


def test_a_run_folder_of_before_keeps_its_sizes(plan, tmp_path):
    first = plan(BASE, "Global.input_size=160")
    (tmp_path / "run.json").write_text("{}")
    before = dump_yaml(first.recipe.document)
    again = plan(before, name="config.yml")
    assert (repr(again.train_reader), repr(again.eval_reader)) == (
        repr(first.train_reader),
        repr(first.eval_reader),
    )
    with pytest.raises(ConfigError, match="416x416 where Global.input_size is 160x160"):
        _ = plan(before).eval_reader


def test_what_is_no_mapping_in_a_file_below_is_passed_by(plan, tmp_path):
    (tmp_path / "below.yml").write_text("Global: 5\nTrainReader: 7\nEvalDataset: 3\nSynthetic: 4\n")
    (tmp_path / "readers.yml").write_text(BASE)
    assert plan("_BASE_: [below.yml, readers.yml]\nSynthetic: null\n" + SIZE).input_size == (320, 320)
    (tmp_path / "run.json").write_text("{}")
    odd = "architecture: PicoDet\nEvalReader: {sample_transforms: [Decode, {Resize: 3}, 5]}\n" + SIZE
    with pytest.raises(ConfigError):
        _ = plan(odd, name="config.yml").eval_reader


def test_the_quickstarts_fingerprint_is_the_same():
    """Its sizes are written beside its input size, and are those that followed it before."""
    own = load_plan("quickstart.yaml")
    assert own.train_reader.batch_transforms[0].params["target_size"] == [[128, 128], [160, 160], [192, 192]]
