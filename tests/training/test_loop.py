"""The loop: reproducible, continuing after any kill, never going on with a loss that is no number."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import paddle
import pytest

from picoquant.detector.weights import read_weights
from picoquant.storage.checkpoints import Checkpoints, read_checkpoint
from picoquant.training.finite import DivergedError
from picoquant.training.loop import train
from picoquant.training.settings import OptimizerSettings
from picoquant.training.state import arrays_of
from tests.training import tiny

STEPS = 3 * tiny.STEPS_PER_EPOCH


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def learned(folder: Path) -> list[dict[str, str]]:
    """Rows of the metrics without what depends on the clock."""
    return [
        {key: value for key, value in row.items() if key != "images_per_second"}
        for row in rows(folder / "work/metrics.csv")
    ]


def same_end(left: Path, right: Path) -> bool:
    """Whether two trainings ended with the same bits."""
    states = [Checkpoints(folder / "work/checkpoints").newest() for folder in (left, right)]
    first, second = states
    return first.progress == second.progress and all(
        np.array_equal(values, second.arrays[group][name])
        for group, arrays in first.arrays.items()
        for name, values in arrays.items()
    )


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    tiny.run(folder)
    return folder


def start(folder: Path, **changes) -> subprocess.Popen:
    script = Path(tiny.__file__)
    environment = {**os.environ, "PYTHONPATH": str(script.parents[2])}
    command = [sys.executable, str(script), str(folder), json.dumps(changes)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def wait_for_step(folder: Path, step: int, process: subprocess.Popen) -> None:
    path, until = folder / "work/metrics.csv", time.monotonic() + 120
    while not path.is_file() or len(path.read_text().splitlines()) <= step:
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until, "the training does not get on"
        time.sleep(0.01)


def test_two_runs_are_the_same(undisturbed, tmp_path):
    result = tiny.run(tmp_path, workers=1)
    assert same_end(undisturbed, tmp_path)
    assert learned(undisturbed) == learned(tmp_path)
    for name in ("best.pdparams", "last.pdparams"):
        left, right = read_weights(undisturbed / "work" / name), read_weights(tmp_path / "work" / name)
        assert left.keys() == right.keys() and all(np.array_equal(left[key], right[key]) for key in left)
    assert result.steps == STEPS and result.epochs == 3


def test_killed_and_continued_is_the_same_as_undisturbed(undisturbed, tmp_path):
    process = start(tmp_path, checkpoint_steps=2)
    wait_for_step(tmp_path, 5, process)  # in the second epoch, one step after a checkpoint
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(rows(tmp_path / "work/metrics.csv")) < STEPS
    process = start(tmp_path, checkpoint_steps=2)
    _, messages = process.communicate(timeout=120)
    assert process.returncode == 0, messages
    assert learned(undisturbed) == learned(tmp_path)
    assert rows(undisturbed / "work/evaluations.csv") == rows(tmp_path / "work/evaluations.csv")
    left, right = (read_weights(folder / "work/last.pdparams") for folder in (undisturbed, tmp_path))
    assert all(np.array_equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, 1)])
def test_a_signal_is_handled_after_a_checkpoint_of_the_step(tmp_path, number, code):
    process = start(tmp_path)
    wait_for_step(tmp_path, 1, process)
    process.send_signal(number)
    _, messages = process.communicate(timeout=60)
    # Nobody here handles SIGTERM; Python turns SIGINT into KeyboardInterrupt.
    assert process.returncode in (code, -number), messages
    done = len(rows(tmp_path / "work/metrics.csv"))
    newest = Checkpoints(tmp_path / "work/checkpoints").newest()
    assert newest.progress["position"]["step"] == done < STEPS


def test_a_finished_training_does_nothing_more(undisturbed):
    before = learned(undisturbed)
    result = tiny.run(undisturbed)
    assert learned(undisturbed) == before
    assert result.steps == STEPS and result.images_per_second == 0
    assert result.best_weights.is_file()


def test_the_result_is_copied_with_its_numbers(undisturbed, tmp_path):
    numbers = tiny.run(undisturbed).write(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "best.pdparams",
        "curves.png",
        "evaluations.csv",
        "last.pdparams",
        "metrics.csv",
    ]
    assert json.loads(json.dumps(numbers))["steps"] == STEPS and 0 <= numbers["mAP"] <= 1


def test_metrics_have_a_row_a_step(undisturbed):
    table = rows(undisturbed / "work/metrics.csv")
    assert [int(row["step"]) for row in table] == list(range(1, STEPS + 1))
    assert [int(row["epoch"]) for row in table] == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    # Warm-up over 4 steps from a third of 0.01, then a cosine over the 5 steps that are left.
    assert float(table[0]["lr"]) == pytest.approx(0.01 / 3)
    assert float(table[4]["lr"]) == pytest.approx(0.01)
    for row in table:
        parts = sum(float(row[name]) for name in ("loss_vfl", "loss_bbox", "loss_dfl"))
        assert float(row["loss"]) == pytest.approx(parts, rel=1e-5)


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_checkpoint(tmp_path):
    with pytest.raises(DivergedError, match=r"step \d+ with learning rate .*LearningRate\.base_lr") as error:
        tiny.run(tmp_path, base_lr=1e20, checkpoint_steps=1)
    newest = Checkpoints(tmp_path / "work/checkpoints").newest()
    assert f"step {newest.progress['position']['step'] + 1} " in str(error.value)
    assert str(tmp_path / "work/checkpoints") in str(error.value)


def test_checkpoints_of_other_settings_are_not_continued(undisturbed, tmp_path, caplog):
    (tmp_path / "work/checkpoints").mkdir(parents=True)
    for path in (undisturbed / "work/checkpoints").iterdir():
        (tmp_path / "work/checkpoints" / path.name).write_bytes(path.read_bytes())
    with caplog.at_level("WARNING", logger="picoquant"):
        tiny.run(tmp_path, epochs=1)
    assert "of another training" in caplog.text
    assert len(rows(tmp_path / "work/metrics.csv")) == tiny.STEPS_PER_EPOCH


class OneBatch:
    """A reader of one batch, the same in every epoch."""

    batch_size = 2

    def __init__(self, steps: int) -> None:
        random = np.random.RandomState(0)
        self.steps_per_epoch = steps
        self._batch = {
            "image": random.rand(2, 3, 64, 64).astype("float32"),
            "gt_bbox": np.array([[[8, 8, 40, 40]], [[20, 10, 60, 50]]], "float32"),
            "gt_class": np.zeros([2, 1, 1], "int32"),
            "pad_gt_mask": np.ones([2, 1, 1], "float32"),
        }

    def epoch(self, epoch, start_step=0):
        return iter([self._batch] * (self.steps_per_epoch - start_step))


def detector() -> paddle.nn.Layer:
    from picoquant import build_detector

    paddle.seed(1)
    return build_detector(tiny.CONFIG, 2)


def settled_detector() -> paddle.nn.Layer:
    """One whose batch norms have statistics that fit, so that it can do with them frozen."""
    model = detector()
    norms = [layer for layer in model.sublayers() if isinstance(layer, paddle.nn.BatchNorm2D)]
    momenta = [layer._momentum for layer in norms]
    for layer in norms:
        layer._momentum = 0.0
    model.train()
    model.raw(paddle.to_tensor(next(OneBatch(1).epoch(0))["image"]))
    for layer, momentum in zip(norms, momenta):
        layer._momentum = momentum
    return model


def test_best_weights_are_those_of_the_best_evaluation(tmp_path):
    seen = []

    def scored(network, epoch):
        assert not network.training
        seen.append({name: value.numpy() for name, value in network.state_dict().items()})
        return {"mAP": [0.1, 0.3, 0.2][epoch]}

    result = train(detector(), OneBatch(1), tiny.settings(), tmp_path, scored)
    assert (result.metrics, result.best_epoch) == ({"mAP": 0.3}, 2)
    for path, weights in ((result.best_weights, seen[1]), (result.last_weights, seen[2])):
        found = read_weights(path)
        assert all(np.array_equal(found[name], weights[name]) for name in weights)


def test_without_evaluation_the_last_weights_are_the_best(tmp_path):
    model = detector()
    result = train(model, OneBatch(2), tiny.settings(epochs=1, ema=None), tmp_path)
    assert result.best_weights == result.last_weights and result.metrics == {}
    found = read_weights(result.best_weights)
    assert all(np.array_equal(found[name], value.numpy()) for name, value in model.state_dict().items())


def test_two_accumulated_halves_equal_one_whole_step(tmp_path):
    # The same batch twice, half its gradient each, is one step of the whole. The update is done at the
    # rate of the second batch: a warm-up of 4 steps from 1/3 is at 1/3 in step 0 and at 1/2 in step 1.
    options = {"epochs": 1, "ema": None, "freeze_batch_norm": True, "base_lr": 0.05}
    whole, halves, start = settled_detector(), settled_detector(), arrays_of(settled_detector())
    train(whole, OneBatch(1), tiny.settings(**options), tmp_path / "whole")
    train(halves, OneBatch(2), tiny.settings(accumulate_steps=2, **options), tmp_path / "halves")
    once, twice = arrays_of(whole), arrays_of(halves)
    for name, value in start.items():
        rounding = 1e-6 * np.abs(value).max()
        np.testing.assert_allclose(
            twice[name] - value, 1.5 * (once[name] - value), atol=rounding, rtol=1e-3, err_msg=name
        )


def test_frozen_batch_norm_stays_as_it_is(tmp_path):
    model = settled_detector()
    norms = [
        name
        for name in model.state_dict()
        if name.rsplit(".", 2)[-2] in ("bn", "norm", "bn1", "bn2") or name.endswith(("_mean", "_variance"))
    ]
    before = arrays_of(model)
    train(model, OneBatch(1), tiny.settings(epochs=1, freeze_batch_norm=True), tmp_path)
    after = arrays_of(model)
    changed = {name for name in after if not np.array_equal(before[name], after[name])}
    assert norms and changed and changed.isdisjoint(norms)


def test_checkpoints_are_no_pickles(undisturbed):
    path = max((undisturbed / "work/checkpoints").iterdir())
    assert read_checkpoint(path).progress["position"]["step"] == STEPS
    assert len(list(path.parent.iterdir())) <= 2


FOUND = [{"mAP": 0.5, "AP50": 0.1}, {"mAP": 0.1, "AP50": 0.3}, *[{"mAP": 0.2, "AP50": 0.3}] * 4]


def test_it_ends_early_and_keeps_what_is_best_by_the_number_that_is_named(tmp_path, caplog):
    """AP50 is best after epoch 2; 3 and 4 are no better, so 5 and 6 are left out, today and when asked again."""
    caplog.set_level("INFO", "picoquant")
    wanted = {"epochs": 6, "early_stop": 2, "save_best": "AP50", "scored": FOUND.__getitem__}
    result = tiny.run(tmp_path, **wanted)
    assert (result.best_epoch, result.epochs, result.metrics) == (2, 4, FOUND[1])
    assert [row["AP50"] for row in rows(tmp_path / "work/evaluations.csv")] == ["0.1", "0.3", "0.3", "0.3"]
    assert (
        "no better AP50 in 2 evaluations, so training ends after epoch 4 of 6 (Train.early_stop)"
        in caplog.text
    )
    assert tiny.run(tmp_path, **wanted).images_per_second == 0
    assert len(rows(tmp_path / "work/evaluations.csv")) == 4


def test_adamw_goes_on_as_if_nothing_had_been(tmp_path):
    """Two moments and two powers a parameter are in the checkpoint, too."""
    optimizer = OptimizerSettings(type="AdamW", weight_decay=0.01)
    wanted = {"optimizer": optimizer, "base_lr": 0.001, "checkpoint_steps": 2, "keep_checkpoints": 9}
    tiny.run(tmp_path, **wanted)
    end = Checkpoints(tmp_path / "work/checkpoints").newest()
    for path in (tmp_path / "work/checkpoints").iterdir():
        if path.name != "step_000000004.ckpt":
            path.unlink()
    assert (tmp_path / "work/checkpoints/step_000000004.ckpt").is_file()
    tiny.run(tmp_path, **wanted)
    again = Checkpoints(tmp_path / "work/checkpoints").newest()
    assert again.progress == end.progress
    names = {name.rpartition("/")[2] for name in end.arrays["optimizer"]}
    assert names == {"moment1_0", "moment2_0", "beta1_pow_acc_0", "beta2_pow_acc_0"}
    for group, arrays in end.arrays.items():
        assert all(np.array_equal(value, again.arrays[group][name]) for name, value in arrays.items())
