"""Options that PaddleDetection's users type: understood, or the error says what to use."""

from __future__ import annotations

import pytest

from picoquant.config.recipe import load_recipe
from tests.command_line import picoquant


@pytest.mark.parametrize(
    ("command", "option", "instead"),
    [
        ("train", "--eval", "training evaluates"),
        ("train", "-r", "the same command again continues a run"),
        ("train", "--amp", "--set Train.amp=true"),
        ("train", "--use_vdl", "--set use_vdl=true"),
        ("eval", "--slim_config", "the run folder keeps what it says"),
        ("eval", "--classwise", "--per-class"),
        ("export", "--output_dir", "--save-dir"),
        ("predict", "--draw_threshold", "--threshold"),
        ("predict", "--infer_dir", "picoquant predict images/"),
        (
            "train",
            "-r",
            "--set pretrain_weights=FILE starts from weights",
        ),  # Global.weights would skip training
        ("train", "--batch_size", "--set TrainReader.batch_size=COUNT"),
        ("train", "--dataset_dir", "it is --data DIR"),
        ("predict", "--camera_id", "picoquant predict 0"),
        ("quantize", "--config_path", "it is --config"),
    ],
)
def test_the_error_names_picoquants_way(command, option, instead):
    done = picoquant(command, option, "value")
    assert done.returncode == 2
    line = done.stderr.strip().splitlines()[-1]
    assert line.startswith(f"Error: No such option {option}; ") and instead in line


def test_another_option_is_not_explained():
    done = picoquant("train", "--evil")
    assert done.returncode == 2 and "No such option" in done.stderr and ";" not in done.stderr


def test_weights_by_its_own_name():
    recipe = load_recipe("picodet_s_qat_dis", ["weights=mine.pdparams"])
    assert recipe.common.weights == "mine.pdparams"
    assert load_recipe("picodet_s_qat_dis", ["weights=a", "Global.weights=b"]).common.weights == "b"
