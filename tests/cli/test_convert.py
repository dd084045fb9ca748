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
        ((path, tmp_path / "a.pth"), "weights are written as"),
        ((tmp_path / "no.npz", path), "no such file"),
    ):
        result = convert(*arguments)
        assert isinstance(result.exception, UserError) and message in str(result.exception)
    assert "--config" in str(convert(tmp_path / "a.onnx", path).exception)
    assert list(read_weights(path)) == ["a"]


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
