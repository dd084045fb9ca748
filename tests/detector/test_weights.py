"""Weights files: what loads, what is skipped, what is refused."""

from __future__ import annotations

import os
import pickle

import numpy as np
import paddle
import pytest

from picoquant.config.detector import load_detector
from picoquant.detector.weights import (
    load_backbone_weights,
    load_weights,
    read_weights,
    save_weights,
)
from picoquant.errors import WeightsError


@pytest.fixture
def model(small):
    paddle.seed(1)
    return load_detector(small)


def numbers(model) -> dict[str, np.ndarray]:
    return {name: value.numpy().copy() for name, value in model.state_dict().items()}


def assert_same(first: dict, second: dict) -> None:
    assert set(first) == set(second)
    for name, value in first.items():
        np.testing.assert_array_equal(value, second[name], err_msg=name)


def write_pickle(path, content, protocol=4):
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def test_what_was_saved_loads(model, small, tmp_path):
    path = tmp_path / "a.pdparams"
    save_weights(model, path)
    other = load_detector(small)
    report = load_weights(other, path)
    assert (report.loaded, report.skipped) == (len(model.state_dict()), ())
    assert_same(numbers(other), numbers(model))
    assert_same(paddle.load(str(path), return_numpy=True), numbers(model))
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.pdparams"]


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_what_paddle_saved_loads(model, small, tmp_path, protocol):
    path = str(tmp_path / "a.pdparams")
    paddle.save(model.state_dict(), path, protocol=protocol)
    other = load_detector(small)
    load_weights(other, path)
    assert_same(numbers(other), numbers(model))


def test_nested_and_prefixed_files_load(model, small, tmp_path):
    nested = str(tmp_path / "nested.pdparams")
    paddle.save({"model": model.state_dict(), "epoch": 3}, nested)  # saved as (name, array)
    prefixed = write_pickle(
        tmp_path / "prefixed", {f"module.{name}": value for name, value in numbers(model).items()}
    )
    for path in (nested, prefixed):
        other = load_detector(small)
        load_weights(other, path)
        assert_same(numbers(other), numbers(model))


def test_one_name_of_a_layer_with_two_suffices(model, small, tmp_path):
    state = {name: value for name, value in numbers(model).items() if "_list." not in name}
    other = load_detector(small)
    load_weights(other, write_pickle(tmp_path / "a", state))
    assert_same(numbers(other), numbers(model))


def test_real_weights(shared):
    model = load_detector("picodet_s_416_coco_npu", num_classes=3)
    report = load_weights(model, shared / "weights" / "picodet_s_npu_bccd.pdparams")
    assert (report.loaded, report.skipped) == (583, ())


def test_real_weights_of_october_2021(shared, golden_network):
    """All classes: everything loads. Another count: the class rows stay, the box rows come."""
    golden = golden_network("esnet_s")
    path = shared / "weights" / "picodet_s_320_coco.pdparams"
    report = load_weights(load_detector(golden.config()), path)
    assert (report.loaded, report.skipped) == (580, ())
    model = load_detector(golden.config(), num_classes=3)
    before = model.head.state_dict()["head_cls0.weight"].numpy().copy()
    report = load_weights(model, path)
    assert report.skipped == tuple(f"head.head_cls{i}.{k}" for i in range(4) for k in ("weight", "bias"))
    after = model.head.state_dict()["head_cls0.weight"].numpy()
    np.testing.assert_array_equal(after[:3], before[:3])
    np.testing.assert_array_equal(after[3:], read_weights(path)["head.head_cls0.weight"][80:])


def test_another_class_count_keeps_the_class_layers(model, small, tmp_path):
    path = tmp_path / "a.pdparams"
    save_weights(model, path)
    other = load_detector(small, num_classes=5)
    before = numbers(other)
    report = load_weights(other, path)
    assert len(report.skipped) == 8  # weight and bias of 4 levels
    assert report.loaded == len(before) - 16  # each under two names
    after, source = numbers(other), numbers(model)
    assert_same({n: after[n] for n in report.skipped}, {n: before[n] for n in report.skipped})
    name = "head.head_reg0.weight"
    np.testing.assert_array_equal(after[name], source[name])


def test_another_architecture_is_refused(model, tmp_path, small):
    path = tmp_path / "a.pdparams"
    save_weights(model, path)
    total = len(model.state_dict())
    small["LCNet"]["scale"] = 0.5
    other = load_detector(small)
    before = numbers(other)
    with pytest.raises(WeightsError, match=rf"a\.pdparams: weights of another architecture: \d+ of {total}"):
        load_weights(other, path)
    assert_same(numbers(other), before)


@pytest.mark.parametrize("change", ["missing", "left over"])
def test_missing_and_left_over_parameters_are_named(model, tmp_path, change):
    state = numbers(model)
    if change == "missing":
        del state["neck.conv_t.convs.0.conv.weight"]
    else:
        state["neck.extra.weight"] = np.zeros(3, np.float32)
    name = "neck.conv_t.convs.0.conv.weight is missing" if change == "missing" else "neck.extra.weight is not"
    with pytest.raises(WeightsError, match=name):
        load_weights(model, write_pickle(tmp_path / "a", state))


class _Attack:
    def __init__(self, call, arguments) -> None:
        self._reduce = (call, arguments)

    def __reduce__(self):
        return self._reduce


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_that_runs_code_is_refused(model, tmp_path, protocol):
    trace = tmp_path / "ran"
    attacks = [
        _Attack(os.system, (f"touch {trace}",)),
        _Attack(eval, (f"open({str(trace)!r}, 'w')", {})),
        _Attack(open, (str(trace), "w")),
        _Attack(getattr, ([], "append")),
    ]
    for attack in attacks:
        path = write_pickle(tmp_path / "bad.pdparams", {"a": attack}, protocol)
        with pytest.raises(WeightsError, match=r"bad\.pdparams"):
            load_weights(model, path)
        assert not trace.exists()
    path = write_pickle(tmp_path / "bad.pdparams", {"a": attacks[0]}, protocol)
    with pytest.raises(WeightsError, match=r"refused.*(posix|nt)\.system"):
        read_weights(path)


def test_files_that_are_no_weights(model, tmp_path):
    text = tmp_path / "text.pdparams"
    text.write_text("hello, I am no pickle")
    whole = pickle.dumps(numbers(model))
    short = tmp_path / "short.pdparams"
    short.write_bytes(whole[: len(whole) // 2])
    for path in (text, short):
        with pytest.raises(WeightsError, match=f"{path.name}: no .pdparams file, or a damaged one"):
            load_weights(model, path)
    with pytest.raises(WeightsError, match="no such file: .*absent"):
        load_weights(model, tmp_path / "absent.pdparams")
    with pytest.raises(WeightsError, match="holds a list"):
        load_weights(model, write_pickle(tmp_path / "list", [1, 2]))
    with pytest.raises(WeightsError, match="holds no weights"):
        load_weights(model, write_pickle(tmp_path / "empty", {}))
    with pytest.raises(WeightsError, match="a is a str"):
        load_weights(model, write_pickle(tmp_path / "text", {"a": "b"}))


def test_weights_that_are_no_numbers_are_refused(model, tmp_path):
    state = numbers(model)
    state["neck.conv_t.convs.0.bn.bias"][0] = np.nan
    with pytest.raises(WeightsError, match=r"neck\.conv_t\.convs\.0\.bn\.bias holds values"):
        load_weights(model, write_pickle(tmp_path / "a", state))


def test_backbone_from_a_classifier(model, small, tmp_path):
    prefix = "backbone."
    state = {n[len(prefix) :]: v for n, v in numbers(model).items() if n.startswith(prefix)}
    state["fc.weight"] = np.zeros((4, 10), np.float32)
    other = load_detector(small)
    report = load_backbone_weights(other, write_pickle(tmp_path / "classifier", state))
    assert report.loaded == len(state) - 1
    loaded = {n: v for n, v in numbers(other).items() if n.startswith(prefix)}
    assert_same(loaded, {n: v for n, v in numbers(model).items() if n.startswith(prefix)})


def test_backbone_from_a_detector_and_from_another(model, small, tmp_path):
    path = tmp_path / "a.pdparams"
    save_weights(model, path)
    load_backbone_weights(load_detector(small), path)
    small["LCNet"]["scale"] = 0.5
    with pytest.raises(WeightsError, match="weights of another backbone"):
        load_backbone_weights(load_detector(small), path)
