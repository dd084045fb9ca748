"""`picoquant convert-weights` as it is typed."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner

from picoquant.cli.main import cli
from picoquant.errors import UserError
from picoquant.weight_files.files import read_weights, write_weights


def convert(*arguments: str):
    return CliRunner().invoke(cli, ["convert-weights", *map(str, arguments)], standalone_mode=False)


def test_through_all_forms_and_back(tmp_path):
    state = {"head.weight": np.arange(6, dtype=np.float32).reshape(2, 3)}
    forms = ["a.pdparams", "b.safetensors", "c.npz", "d.pdparams"]
    write_weights(state, tmp_path / forms[0])
    for source, out in zip(forms, forms[1:]):
        result = convert(tmp_path / source, tmp_path / out)
        assert result.exception is None and "1 arrays" in result.output
    np.testing.assert_array_equal(read_weights(tmp_path / forms[-1])["head.weight"], state["head.weight"])


def test_what_cannot_be_done_is_told(tmp_path):
    path = tmp_path / "a.pdparams"
    write_weights({"a": np.ones(1, np.float32)}, path)
    for arguments, message in (
        ((path, path), "the same file"),
        ((path, tmp_path / "a.pt"), "weights are written as"),
        ((path, tmp_path / "a.pth"), "a: mmdet's PicoDet has no name for it"),
        ((tmp_path / "no.npz", path), "no such file"),
    ):
        result = convert(*arguments)
        assert isinstance(result.exception, UserError) and message in str(result.exception)
    assert "--config" in str(convert(tmp_path / "a.onnx", path).exception)
    assert list(read_weights(path)) == ["a"]


def test_half_is_rounded_to_eleven_bits_in_half_the_size(tmp_path):
    values = np.float32([1.0, 1.0 + 2**-11, 1.0 + 3 * 2**-11, -65504.0, 6e-8, 0.1])
    write_weights({"a": values, "b": np.zeros((64, 64), np.float32)}, tmp_path / "a.npz")
    sizes = []
    for options, out in (((), "whole.safetensors"), (("--half",), "half.safetensors")):
        assert convert(*options, tmp_path / "a.npz", tmp_path / out).exception is None
        sizes.append((tmp_path / out).stat().st_size)
    assert sizes[0] - sizes[1] == 2 * (6 + 64 * 64)
    read = read_weights(tmp_path / "half.safetensors")["a"]
    assert read.dtype == np.float32
    # Ties go to the even one; the smallest number of float16 is 2^-24.
    np.testing.assert_array_equal(read, np.float32([1.0, 1.0, 1.0 + 2**-9, -65504.0, 2**-24, 1638 / 16384]))


def test_half_refuses_what_it_cannot_hold(tmp_path):
    write_weights({"a": np.ones(2, np.float32), "var": np.float32([1, 70000])}, tmp_path / "a.npz")
    result = convert("--half", tmp_path / "a.npz", tmp_path / "b.npz")
    assert isinstance(result.exception, UserError)
    assert str(result.exception) == (
        f"{tmp_path / 'a.npz'}: var holds 70000, more than 16 bits can (65504); convert without --half"
    )
    assert not (tmp_path / "b.npz").exists()
    assert "once more" in str(convert("--half", tmp_path / "a.onnx", tmp_path / "b.npz").exception)


@pytest.mark.slow
def test_onnx_to_weights(tmp_path):
    import onnx

    import picoquant
    from picoquant.backends.onnx.paddle2onnx import paddle_to_onnx
    from picoquant.export import InferConfig
    from picoquant.export.paddle_export import export_model

    model = picoquant.build_detector("picodet_s_416_coco_npu.yml", num_classes=3)
    model.eval()
    made = export_model(model, tmp_path / "export", "boxes", (64, 96), InferConfig((64, 96), ("a", "b", "c")))
    onnx.save(paddle_to_onnx(made.model, made.params), tmp_path / "a.onnx")
    out = tmp_path / "a.safetensors"
    result = convert(
        tmp_path / "a.onnx",
        out,
        "-c",
        "picodet_s_416_coco_npu",
        "--input-size",
        "64,96",
        "--set",
        "num_classes=3",
    )
    assert result.exception is None, result.exception
    assert "122 convolutions; ONNX Runtime and the network differ by" in result.output
    found = read_weights(out)
    for name, value in model.state_dict().items():
        np.testing.assert_allclose(found[name], value.numpy(), rtol=1e-4, atol=1e-5)
