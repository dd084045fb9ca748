"""What oneDNN's primitives compute is what Paddle's dygraph computes, gradients and statistics included."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import paddle
import pytest

from picoquant.training.fast import fast_convolutions_available
from picoquant.training.onednn.engine import bfloat16_available
from picoquant.training.onednn.library import AVX2, AVX512, Kind, library
from tests.training.onednn.pieces import (
    PIECES,
    Depthwise,
    Joined,
    LargestOf,
    Squeeze,
    made,
    on_engine,
    results,
)

pytestmark = pytest.mark.skipif(
    not fast_convolutions_available() or library() is None or not library().has(AVX2),
    reason="no oneDNN of version 3 with AVX2 here",
)
SIZES = ((3, 16, 12, 10), (2, 16, 8, 14), (3, 16, 12, 10))


def image(shape) -> np.ndarray:
    return np.random.RandomState(sum(shape)).randn(*shape).astype("float32")


@pytest.mark.parametrize("wide", [16, 24, 40])
@pytest.mark.parametrize("piece", PIECES, ids=lambda piece: piece.__name__)
def test_it_is_dygraph(piece, wide):
    """Of several sizes in turns, and of numbers of channels that do and do not fill blocks."""
    layer, other = made(piece, wide), made(piece, wide)
    run = on_engine(layer)
    for shape in SIZES:
        found = results(run, layer, image(shape))
        for name, expected in results(other, other, image(shape)).items():
            scale = np.abs(expected).max() + 1e-6
            np.testing.assert_allclose(found[name], expected, atol=2e-4 * scale, err_msg=f"{name} {shape}")


@pytest.mark.skipif(not bfloat16_available(), reason="this processor does not multiply bfloat16")
@pytest.mark.parametrize("wide", [16, 24])
@pytest.mark.parametrize("piece", PIECES, ids=lambda piece: piece.__name__)
def test_in_bfloat16_it_is_near(piece, wide):
    """A value has 8 bits there: half of the last is 0.2 %, and errors of many values mostly cancel out."""
    layer, other = made(piece, wide), made(piece, wide)
    run = on_engine(layer, Kind.BF16)
    for shape in SIZES[:2]:
        found = results(run, layer, image(shape))
        for name, expected in results(other, other, image(shape)).items():
            if name.startswith("gradient") and (expected.ndim == 1 or piece is LargestOf):
                continue  # sums over whole maps of what mostly cancels out; another of two like values is the largest
            error = np.sqrt(np.square(found[name] - expected).mean() / (np.square(expected).mean() + 1e-12))
            assert error < (0.12 if "gradient" in name else 0.02), f"{name} {shape}"
            assert found[name].dtype == np.float32


def test_images_have_no_gradient_and_may_be_freed():
    """Their memory is another's once the step has dropped them; the weights' gradient reads it nevertheless."""
    layer, other = made(Depthwise), made(Depthwise)
    run = on_engine(layer, gradient=False)
    expected = results(other, other, image(SIZES[0]), gradient=False)
    out = run(paddle.to_tensor(image(SIZES[0])))
    rubbish = [paddle.full(SIZES[0], np.float32(1e9)) for _ in range(20)]
    weight = np.random.RandomState(1).randn(*out.shape).astype("float32")
    (out * paddle.to_tensor(weight)).sum().backward()
    for name, value in layer.named_parameters():
        if value.grad is not None:
            scale = np.abs(expected[f"gradient of {name}"]).max()
            np.testing.assert_allclose(
                value.grad.numpy(), expected.pop(f"gradient of {name}"), atol=2e-4 * scale
            )
    assert not [name for name in expected if name.startswith("gradient")]
    assert len(rubbish) == 20


def test_gradients_are_added_up_over_steps():
    layer, other = made(Squeeze), made(Squeeze)
    run = on_engine(layer)
    for call in (run, other):
        for shape in SIZES[:2]:
            (call(paddle.to_tensor(image(shape))) ** 2).sum().backward()
    for (name, value), expected in zip(layer.named_parameters(), other.parameters()):
        assert (value.grad is None) == (expected.grad is None) == value.stop_gradient
        if value.stop_gradient:
            continue
        scale = np.abs(expected.grad.numpy()).max()
        np.testing.assert_allclose(value.grad.numpy(), expected.grad.numpy(), atol=5e-4 * scale, err_msg=name)


def test_gradients_of_an_earlier_step_are_refused():
    """Its maps are no longer there."""
    run = on_engine(made(Joined))
    first = run(paddle.to_tensor(image(SIZES[0])))
    run(paddle.to_tensor(image(SIZES[1])))
    with pytest.raises(Exception, match="only until the next one begins"):  # Paddle wraps it
        first[0].sum().backward()


@pytest.mark.parametrize("broken", ["norm.weight", "deep.weight", "an overflow"])
def test_what_is_no_number_reaches_the_outputs(broken):
    """oneDNN's relu6 makes 0 or 6 of it."""
    layer = made(Depthwise)
    run = on_engine(layer)
    if broken == "an overflow":
        layer.first.weight.set_value(paddle.full_like(layer.first.weight, 3e38))
    else:
        values = dict(layer.named_parameters())[broken]
        changed = values.numpy()
        changed.flat[3] = np.nan
        values.set_value(changed)
    assert np.isnan(run(paddle.to_tensor(image(SIZES[0]))).numpy()).all()


def test_what_is_frozen_stays_and_has_no_gradient():
    layer, other = made(Depthwise), made(Depthwise)
    for one in (layer, other):
        one.first.weight.stop_gradient = True
        one.norm.weight.stop_gradient = one.norm.bias.stop_gradient = True
        one.norm.eval()
        one.norm._mean.set_value(paddle.linspace(-1, 1, 24))
        one.norm._variance.set_value(paddle.linspace(0.5, 2, 24))
    run = on_engine(layer, gradient=False)
    found, expected = (results(call, one, image(SIZES[0]), gradient=False)
                       for call, one in ((run, layer), (other, other)))  # fmt: skip
    assert found.keys() == expected.keys()
    assert "gradient of first.weight" not in found
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, atol=2e-4 * (np.abs(value).max() + 1e-6), err_msg=name)


def test_the_same_step_has_the_same_bits():
    layer = made(Squeeze)
    run = on_engine(layer)
    first, second = (results(run, layer, image(SIZES[0])) for _ in range(2))
    for name in first:
        if "_mean" not in name and "_variance" not in name:
            np.testing.assert_array_equal(first[name], second[name], err_msg=name)


@pytest.mark.skipif(
    library() is None or not library().has(AVX512), reason="no other instructions to be without here"
)
def test_with_avx2_alone_it_is_dygraph(tmp_path, root):
    """Blocks of 8 channels, and other kernels."""
    files = [Path(__file__), Path(__file__).with_name("test_joint_norms.py")]
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        *(str(file.relative_to(root)) for file in files),
        "-k",
        "(it_is_dygraph or it_is_as_without) and 24",
    ]
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert f"{2 * len(PIECES)} passed" in done.stdout, done.stdout[-2000:]
