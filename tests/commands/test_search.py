"""`quantize --search` for real on a network that is quantised within seconds."""

from __future__ import annotations

import csv
import json
import shutil

import pytest

from picoquant.commands.search.search import search
from picoquant.errors import ConfigError, UserError
from picoquant.stages.order import run_recipe
from picoquant.storage.files import sha256
from tests.networks.tiny_run import write_tiny_run

NO_TIME = 0.0001  # minutes: the first trial, and what is there already


def models(folder):
    return [sha256(folder / name) for name in ("model.pdmodel", "model.pdiparams")]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that was quantised as its recipe says, and searched after that without time for more than one trial."""
    root = write_tiny_run(tmp_path_factory.mktemp("search") / "output")
    run_recipe(None, str(root), first="quantize", last="quantize")
    before = models(root / "quantize")
    found = search(None, str(root), (), NO_TIME)
    return root, before, found


def test_the_first_trial_is_run_and_what_the_run_has_is_taken(trained):
    root, before, found = trained
    assert [trial.name for trial in found.trials] == ["001-ptq", "002-qat"]
    assert [trial.status for trial in found.trials] == ["done", "done"]
    assert models(root / "search/002-qat/quantize") == before
    assert not (root / "search/003-qat-level_rate-0.0025").exists()
    for trial in found.trials:
        assert trial.worth == pytest.approx((trial.score.mAP * trial.score.fidelity) ** 0.5)
        assert trial.interval[0] <= trial.score.fidelity <= trial.interval[1]


def test_the_recipes_own_settings_are_kept_where_another_is_not_told_apart(trained):
    root, before, found = trained
    assert found.best.name == "002-qat" and models(root / "quantize") == before
    rows = list(csv.DictReader((root / "search/trials.csv").open()))
    assert [(row["trial"], row["chosen"], row["overrides"]) for row in rows] == [
        ("001-ptq", "0", "Quantize.method=ptq"),
        ("002-qat", "1", ""),
    ]
    written = json.loads((root / "search/trials.json").read_text())
    assert written == json.loads(json.dumps(found.to_json())) and written["best"] == "002-qat"


def test_the_best_one_is_the_runs_and_evaluated_as_it_was_in_the_search(tmp_path):
    root = write_tiny_run(tmp_path / "output")
    found = search(None, str(root), (), NO_TIME)
    assert [trial.name for trial in found.trials] == ["001-ptq"]
    assert models(root / "quantize") == models(root / "search/001-ptq/quantize")
    assert "method: ptq" in (root / "config.yml").read_text()
    stamp = (root / "quantize/model.pdmodel").stat().st_mtime_ns
    run = run_recipe(None, str(root), first="quantize", last="evaluate")
    assert (root / "quantize/model.pdmodel").stat().st_mtime_ns == stamp
    evaluated = run.record("evaluate")["metrics"]["int8"]
    assert evaluated["mAP"] == found.best.score.mAP and evaluated["fidelity"] == found.best.score.fidelity
    # Again: the search goes on from its own recipe, not from what it chose, and runs nothing.
    records = [
        root / name for name in ("search/001-ptq/quantize", "search/001-ptq/score", "search/fp32/score")
    ]
    before = [folder.stat().st_ino for folder in records]
    again = search(None, str(root), (), NO_TIME)
    assert again.trials == found.trials and again.best == found.best
    assert [folder.stat().st_ino for folder in records] == before
    assert "method: qat" in (root / "search/recipe.yml").read_text()


def test_a_trial_that_fails_is_kept_with_its_reason_and_not_tried_again(tmp_path, caplog):
    caplog.set_level("INFO", "picoquant")
    root = write_tiny_run(tmp_path / "output")
    # Calibration takes an image that cannot be read: no trial has a result.
    (root / "images/blocks_2.png").write_bytes(b"no image")
    other = shutil.copytree(root / "images", root / "good")
    shutil.copy(root / "images/blocks_1.png", other / "blocks_2.png")
    with pytest.raises(UserError, match="no trial has a result; the first: .*blocks_2.png"):
        search(None, str(root), ("EvalDataset.image_dir=good",), NO_TIME)
    rows = list(csv.DictReader((root / "search/trials.csv").open()))
    assert rows[0]["status"] == "failed" and "blocks_2.png" in rows[0]["reason"]
    assert not (root / "quantize").exists()
    with pytest.raises(UserError, match="no trial has a result"):
        search(None, str(root), ("EvalDataset.image_dir=good",), NO_TIME)
    assert "001-ptq: failed before" in caplog.text


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), float("inf")])
def test_no_time(minutes, tmp_path):
    with pytest.raises(UserError, match="--search .*: expected minutes above 0, for example --search 60"):
        search("quickstart", str(tmp_path / "out"), (), minutes)
    assert not (tmp_path / "out").exists()


def test_what_a_search_cannot_do(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="set Global.Evaluation to true"):
        search("quickstart", str(tmp_path), ("Global.Evaluation=false",), 1)
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    with pytest.raises(
        ConfigError, match="--search is for one process: run it without paddle.distributed.launch"
    ):
        search("quickstart", str(tmp_path), (), 1)
