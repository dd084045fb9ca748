"""Batch norm over two processes' images beside one process with all of them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from paddle import nn

from picoquant.training.joint_batch_norm.layer import JointBatchNorm2D, synchronised
from picoquant.training.joint_batch_norm.statistics import Own, Sides, joint_gradients, joint_statistics
from tests.command_line import picoquant as picoquant_command
from tests.command_line import with_sets
from tests.training.joint_batch_norm import shared_norms
from tests.utils.test_process_group import launch, launch_command


def form(name: str) -> object:
    there = name in shared_norms.forms()
    return pytest.param(name, marks=pytest.mark.skipif(not there, reason="this machine has no such way"))


FORMS = [form(name) for name in ("dygraph", "graph", "engine", "bfloat16")]


class Group:
    """The first of two processes; the other tells what it is given."""

    def __init__(self, other):
        self.other = np.asarray(other, float)

    def rows(self, values):
        return np.stack([values, self.other])


def test_statistics_of_unequal_parts():
    mine, theirs = np.array([1.0, 3.0]), np.array([2.0, 6.0, 10.0, 14.0])
    group = Group([theirs.mean(), theirs.var(), theirs.size])
    own = Own(np.array([mine.mean()]), np.array([mine.var()]), mine.size)
    (found,) = joint_statistics(group, [own])
    every = np.concatenate([mine, theirs])
    np.testing.assert_allclose(found.mean, [every.mean()])
    np.testing.assert_allclose(found.variance, [every.var()])


def test_gradients_are_means_over_all_values():
    sums = Sides(np.array([1.0]), np.array([2.0]), 2)
    (found,) = joint_gradients(Group([5.0, 7.0, 4]), [sums])
    assert found == (1.0, 1.5, 6)  # (1 + 5) / 6, (2 + 7) / 6


def test_of_several_batch_norms_one_message_tells_what_each_alone_would():
    random = np.random.RandomState(3)
    sizes, counts = (2, 3), (4, 9)
    own = [Own(random.randn(size), random.rand(size), count) for size, count in zip(sizes, counts)]
    sums = [Sides(random.randn(size), random.randn(size), count) for size, count in zip(sizes, counts)]
    others = [np.append(random.rand(2 * size), count) for size, count in zip(sizes, (6, 2))]
    statistics = joint_statistics(Group(np.concatenate(others)), own)
    gradients = joint_gradients(Group(np.concatenate(others)), sums)
    for place, other in enumerate(others):
        (alone,) = joint_statistics(Group(other), own[place : place + 1])
        for found, expected in zip(statistics[place], alone):
            np.testing.assert_array_equal(found, expected)
        (alone,) = joint_gradients(Group(other), sums[place : place + 1])
        for found, expected in zip(gradients[place], alone):
            np.testing.assert_array_equal(found, expected)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("norms")
    done = launch(Path(shared_norms.__file__), str(folder), folder=folder)
    assert done.returncode == 0, done.stdout[-3000:] + (folder / "log/workerlog.0").read_text()[-3000:]
    return folder


@pytest.mark.parametrize("form", FORMS[:3])
def test_two_processes_compute_as_one_with_all_images(folder, form):
    alone = shared_norms.computed(slice(None))
    assert any("_variance" in name for name in alone)
    for rank, share in enumerate(shared_norms.SHARES):
        found = np.load(folder / f"{form}_{rank}.npz")
        assert set(found) == set(alone)
        for name, value in alone.items():
            if name == "first.bias's gradient":  # 0: batch norm takes any constant out
                assert np.abs(found[name]).max() < 1e-4
                continue
            value = value[share] if name in ("outputs", "images' gradient") else value
            np.testing.assert_allclose(
                found[name], value, rtol=0, atol=1e-5 * np.abs(value).max(), err_msg=name
            )


@pytest.mark.parametrize("form", FORMS[3:])
def test_in_bfloat16_two_processes_are_near_one_with_all_images(folder, form):
    """Their maps are rounded once more, in the gradient of what is normalised."""
    alone = shared_norms.computed(slice(None), form=form)
    for rank, share in enumerate(shared_norms.SHARES):
        found = np.load(folder / f"{form}_{rank}.npz")
        for name, value in alone.items():
            if name == "first.bias's gradient":
                continue
            value = value[share] if name in ("outputs", "images' gradient") else value
            error = np.sqrt(np.square(found[name] - value).mean() / np.square(value).mean())
            assert error < (0.03 if "gradient" in name else 1e-5), name


def test_own_statistics_would_differ(folder):
    """The images of the two processes are so different that the test above means something."""
    apart, alone = shared_norms.computed(shared_norms.SHARES[0]), shared_norms.computed(slice(None))
    own = alone["outputs"][shared_norms.SHARES[0]]
    assert np.abs(apart["outputs"] - own).max() > 0.1 * np.abs(own).max()


@pytest.mark.parametrize("form", FORMS)
def test_running_statistics_are_the_same_bits(folder, form):
    first, second = (np.load(folder / f"{form}_{rank}.npz") for rank in (0, 1))
    names = [name for name in first if "._mean" in name or "._variance" in name]
    assert len(names) == 6
    for name in names:
        np.testing.assert_array_equal(first[name], second[name])


def test_a_converted_network_keeps_its_parameters_and_names():
    network = shared_norms.Norms()
    before = {name: value.name for name, value in network.state_dict().items()}
    converted = synchronised(network, Group(0))
    assert isinstance(converted.norm, JointBatchNorm2D) and isinstance(converted.last, nn.BatchNorm2D)
    assert {name: value.name for name, value in converted.state_dict().items()} == before
    assert (converted.norm._momentum, converted.last._epsilon) == (0.7, 1e-3)


@pytest.mark.slow
def test_a_trained_detector_is_trained_on_as_in_one_process(tmp_path):
    """The whole network, nothing frozen, from weights with which its channels vary."""
    texts = [
        "Synthetic.train_images=28", "Synthetic.val_images=4", "Synthetic.image_size=160", "epoch=1",
        "snapshot_epoch=1", "LearningRate.base_lr=0.001", "worker_num=0", "norm_type=sync_bn", "log_iter=1",
        "TrainReader.batch_transforms.0.BatchRandomResize.target_size=[160]",
    ]  # fmt: skip
    command = ["train", "-c", "quickstart.yaml", *with_sets(texts)]
    one, two = (
        [*command, "--save-dir", str(tmp_path / name), "--set", f"TrainReader.batch_size={size}"]
        for name, size in (("one", 8), ("two", 4))
    )
    alone, shared = picoquant_command(*one), launch_command(*two, folder=tmp_path)
    assert (alone.returncode, shared.returncode) == (0, 0), alone.stderr[-2000:] + shared.stdout[-2000:]
    curves = []
    for name in ("one", "two"):
        with open(tmp_path / name / "train/metrics.csv", newline="") as stream:
            rows = list(csv.DictReader(stream))
        curves.append([[float(row[key]) for key in row if key.startswith("loss")] for row in rows])
    assert np.shape(curves[0]) == (3, 4)
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-5)
