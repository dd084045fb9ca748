"""A prepared student is kept for a run that continues, and made again for any other."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from picoquant.errors import ConfigError
from picoquant.quantization.calibration_images import CalibrationImages
from picoquant.quantization.ptq.equalisation.scales import read_scales
from picoquant.quantization.ptq.prepare import FILES, prepare
from tests.quantization.ptq.states import context_of


def no_images():
    raise AssertionError("images were read again")


@pytest.fixture
def first(small_model, tmp_path):
    """The context of a preparation, and the state that it ended in."""
    context = context_of(small_model, tmp_path / "first", rounding="reconstructed")
    yield context, prepare(context)


def again(context, small_model, folder, **changes):
    """The context of the next run with the same work folder."""
    other = context_of(small_model, folder, no_images, rounding="reconstructed")
    context.paths.prepared.rename(other.paths.prepared)
    return replace(other, fingerprint=context.fingerprint, **changes)


def test_the_prepared_network(first):
    context, state = first
    assert (state.folded, state.images, len(state.operators)) == (3, 4, 5)
    assert state.ranges.keys() == {*state.tensors.names, *state.tensors.fused}
    weights, biases = 5, 5
    assert len(state.float_params) == weights + biases
    facts = json.loads((context.paths.prepared / "student.json").read_text())
    assert set(facts) == {"fingerprint", "folded", "settled", "equalised", "images", "ranges", "zero_points"}
    for name in FILES:
        kept, used = (folder / name for folder in (context.paths.prepared, context.paths.student))
        assert kept.read_bytes() == used.read_bytes()
    assert read_scales(context.paths.student) == {}  # ReLU6 lets no factor pass


def test_the_same_run_takes_what_was_kept(first, small_model, tmp_path):
    context, state = first
    expected = {name: (context.paths.student / name).read_bytes() for name in FILES}
    context = again(context, small_model, tmp_path / "second")
    found = prepare(context)
    assert {name: (context.paths.student / name).read_bytes() for name in FILES} == expected
    assert (found.folded, found.equalised, found.images) == (state.folded, state.equalised, state.images)
    assert found.ranges == state.ranges and found.operators == state.operators
    assert found.float_params.keys() == state.float_params.keys()
    for name, value in state.float_params.items():
        np.testing.assert_array_equal(found.float_params[name], value)


@pytest.mark.parametrize("damage", ["fingerprint", "as_float.npz", "student.json", "model.pdiparams"])
def test_what_is_damaged_or_of_another_run_is_made_again(first, small_model, tmp_path, damage):
    context = again(first[0], small_model, tmp_path / "second")
    kept = context.paths.prepared / damage
    if damage == "fingerprint":
        context = replace(context, fingerprint="another")
    elif damage == "model.pdiparams":
        kept.unlink()
    else:
        kept.write_bytes(b"PK nothing")
    with pytest.raises(AssertionError, match="read again"):
        prepare(context)
    images = CalibrationImages(first[0].images.__iter__, 2, context.paths.calibration)
    assert prepare(replace(context, images=images)).ranges == first[1].ranges


def test_ignored_layers_are_checked_before_images_are_read(small_model, tmp_path):
    with pytest.raises(ConfigError, match="no layer is called conv2d_9"):
        prepare(context_of(small_model, tmp_path, no_images, keep_float=("conv2d_9",)))
