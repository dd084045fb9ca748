"""Filters removed from networks, with all that depends on them."""

from __future__ import annotations

import logging

import numpy as np
import paddle
import pytest

from picoquant.config.detector import parse_detector
from picoquant.detector.build import build_picodet
from picoquant.detector.resizing import require_fitting, take_shapes
from picoquant.errors import ConfigError, WeightsError
from picoquant.export.paddle_export import RawForm
from picoquant.pruning.filters import remove
from picoquant.pruning.filters.remove import find_groups, remove_filters, shapes_of
from picoquant.pruning.names import numbered, weights_of
from picoquant.pruning.settings import PrunerSettings
from picoquant.summary import summarise
from picoquant.yaml_files.load import load_detection_config
from tests.pruning.filters.small import small, statistics

NPU, XS = "picodet_s_416_coco_npu.yml", "picodet_xs_320_coco_lcnet.yml"


def detector(config):
    paddle.seed(1)
    with paddle.utils.unique_name.guard():
        model = build_picodet(parse_detector(load_detection_config(config), 3))
    statistics(model)
    model.eval()
    return model


def compare(whole, pruned, settings, monkeypatch, size):
    """With the removed channels at 0 the whole network must have the outputs of the small one."""
    groups = find_groups(whole)
    monkeypatch.setattr(remove, "find_groups", lambda _: groups)
    removed = remove_filters(pruned, settings)
    chosen = remove._choose(whole, settings, groups)
    state = whole.state_dict()
    values = {name: value.numpy() for name, value in state.items()}
    for row in (row for root in chosen for row in groups.rows[root] if row.axis == 0):
        values[row.name][row.position] = 0
    for name, value in state.items():
        value.set_value(values[name])
    image = np.random.default_rng(2).normal(size=(2, 3, *size)).astype(np.float32)
    varying = []
    with paddle.no_grad():
        for first, second in zip(
            whole.logits(paddle.to_tensor(image)), pruned.logits(paddle.to_tensor(image))
        ):
            first, second = first.numpy(), second.numpy()
            assert first.shape == second.shape
            assert np.abs(first - second).max() <= 0.01 * np.ptp(first) + 1e-6 * np.abs(first).max()
            varying.append(np.ptp(first) > 1e-4)
    assert sum(varying) > len(varying) / 2  # or there would be nothing to compare
    assert not pruned.training  # as it was
    return removed


@pytest.mark.parametrize("criterion", ["fpgm", "l1_norm"])
def test_what_is_left_computes_what_the_whole_network_did(criterion, monkeypatch):
    removed = compare(small(), small(), PrunerSettings(criterion, "all", 0.4), monkeypatch, (64, 64))
    # round(0.4 * n) of 8, 4, 6 pairs of channels, 10 and 5; the outputs stay.
    assert {one.name: (one.before, one.after) for one in removed} == {
        "stem.conv.weight": (8, 5), "deep.conv.weight": (8, 5), "squeeze.weight": (4, 2), "excite.weight": (8, 5),
        "left.conv.weight": (12, 8), "right.conv.weight": (12, 8), "part.conv.weight": (6, 4),
        "wide.conv.weight": (10, 6), "spatial.weight": (5, 3),
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        XS, NPU, "legacy_model/picodet_s_320_coco.yml", "legacy_2021_08/picodet_s_shufflenetv2_320_coco.yml",
        "legacy_2021_08/picodet_m_mbv3_320_coco.yml", "legacy_model/more_config/picodet_r18_640_coco.yml",
    ],
)  # fmt: skip
def test_what_is_left_of_a_detector(config, monkeypatch):
    whole, pruned = detector(config), detector(config)
    before = summarise(whole, (64, 96)).macs
    assert len(compare(whole, pruned, PrunerSettings("fpgm", "all", 0.4), monkeypatch, (64, 96))) > 40
    assert 0.2 < summarise(pruned, (64, 96)).macs / before < 0.6


def as_paddleslim(make, names, ratios, criterion):
    """The same shapes and values as PaddleSlim's; the numbers of filters before and after."""
    pytest.importorskip("paddleslim", reason="PaddleSlim, which is compared with, is for Paddle 2.6")
    from paddleslim.dygraph import FPGMFilterPruner, L1NormFilterPruner

    theirs, ours = make(), make()
    variables = dict(theirs.state_dict())
    kind = {"fpgm": FPGMFilterPruner, "l1_norm": L1NormFilterPruner}[criterion]
    pruner = kind(RawForm(theirs), [1, 3, 64, 64])
    pruner.prune_vars({variables[name].name: ratio for name, ratio in zip(names, ratios)}, [0])
    numbers = {name: number for number, name in numbered(ours).items()}
    removed = remove_filters(
        ours, PrunerSettings(criterion, [f"{numbers[name]}.w_0" for name in names], ratios)
    )
    expected = {name: value.numpy() for name, value in theirs.state_dict().items() if "backup" not in name}
    found = {name: value.numpy() for name, value in ours.state_dict().items()}
    assert {name: value.shape for name, value in found.items()} == {
        name: expected[name].shape for name in found
    }
    assert all(np.array_equal(value, expected[name]) for name, value in found.items())
    counts = {one.name: (one.before, one.after) for one in removed}
    return [counts[name] for name in names]


@pytest.mark.parametrize("criterion", ["fpgm", "l1_norm"])
def test_as_paddleslim(criterion):
    names, ratios = ["stem.conv.weight", "squeeze.weight", "spatial.weight"], [0.25, 0.5, 0.3]
    assert as_paddleslim(small, names, ratios, criterion) == [(8, 6), (4, 2), (5, 3)]


@pytest.mark.slow
@pytest.mark.parametrize("criterion", ["fpgm", "l1_norm"])
def test_a_detector_as_paddleslim(criterion):
    names = [
        "backbone.conv1.conv.weight", "backbone.blocks3.0.pw_conv.conv.weight", "backbone.blocks6.0.se.conv1.weight",
        "neck.top_down_blocks.0.main_conv.conv.weight", "head.conv_feat.cls_conv_pw0.0.conv.weight",
    ]  # fmt: skip
    found = as_paddleslim(lambda: detector(NPU), names, [0.25, 0.3, 0.5, 0.4, 0.1], criterion)
    assert found == [(16, 12), (48, 34), (48, 24), (48, 29), (96, 86)]


@pytest.fixture(scope="module")
def groups():
    return find_groups(small())


def test_the_groups_of_layers(groups):
    """By the network's drawing: what shares channels with the first convolution, and what has none to lose."""
    first = groups.of("stem.conv.weight", 8)
    assert len(set(first)) == 8
    assert not groups.kept & set(first)
    norms = {
        f"{block}.bn.{one}" for block in ("stem", "deep") for one in ("weight", "bias", "_mean", "_variance")
    }
    filters = {"stem.conv.weight", "deep.conv.weight", "excite.weight", "excite.bias"}
    inputs = {"squeeze.weight", "left.conv.weight", "right.conv.weight"}
    expected = {(name, 0, 0) for name in norms | filters} | {(name, 1, 0) for name in inputs}
    assert set(groups.rows[first[0]]) == expected
    # Channel 1 of the sum is split off with channel 7, and its half goes on through a convolution.
    rows = {
        (row.name, row.position) for row in groups.rows[groups.of("left.conv.weight", 12)[1]] if row.axis == 0
    }
    assert {
        ("left.conv.weight", 1),
        ("left.conv.weight", 7),
        ("right.conv.weight", 7),
        ("part.conv.weight", 1),
    } <= rows
    assert set(groups.of("out.weight", 4)) <= groups.kept


@pytest.mark.parametrize(
    ("names", "error"),
    [
        (["conv2d_900.w_0"], "the network has no conv2d_900.w_0; its last convolution is conv2d_9"),
        (["left.conv.weights"], "no weights 'left.conv.weights' .did you mean left.conv.weight"),
        (["out"], "out.weight cannot lose filters: they make the network's outputs"),
    ],
)
def test_what_cannot_be_pruned(groups, monkeypatch, names, error):
    monkeypatch.setattr(remove, "find_groups", lambda _: groups)
    with pytest.raises(ConfigError, match=f"Pruner.pruned_params: .*{error}"):
        remove_filters(small(), PrunerSettings("fpgm", names, 0.3))


def test_layers_of_the_same_channels_lose_them_once(groups, monkeypatch, caplog):
    monkeypatch.setattr(remove, "find_groups", lambda _: groups)
    model = small()
    with caplog.at_level(logging.INFO, "picoquant"):
        remove_filters(
            model, PrunerSettings("l1_norm", ["conv2d_0", "deep.conv", "squeeze"], [0.25, 0.5, 0.5], True)
        )
    assert shapes_of(model)["deep.conv.weight"] == [6, 1, 3, 3]
    assert model.deep.conv._groups == 6
    said = [record.getMessage() for record in caplog.records]
    assert (
        "prune: deep.conv.weight has the channels of a layer that was named before; it goes with that" in said
    )
    assert "prune: conv2d_0 stem.conv.weight [8, 3, 3, 3]" in said


def test_what_is_pruned_can_be_trained(groups, monkeypatch):
    monkeypatch.setattr(remove, "find_groups", lambda _: groups)
    model = small()
    remove_filters(model, PrunerSettings("l1_norm", "all", 0.5))
    model.train()
    optimizer = paddle.optimizer.Momentum(0.05, parameters=model.parameters())
    losses = []
    for _ in range(4):
        loss = (model(paddle.full([2, 3, 64, 64], 0.5)) ** 2).mean()
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        losses.append(loss.item())
    assert losses[3] < losses[0]
    assert weights_of(model)["stem.conv.weight"].shape == [4, 3, 3, 3]


def test_shapes_that_do_not_fit():
    model = small()
    take_shapes(model, {"stem.conv.weight": (5, 3, 3, 3), "gone": (1,)})
    with pytest.raises(WeightsError, match="the shapes of its layers do not fit together"):
        require_fitting(model)
    with pytest.raises(WeightsError, match=r"stem.bn.weight is \[8, 1\], \[8\] in the network"):
        take_shapes(small(), {"stem.bn.weight": (8, 1)})
