"""Exports of each kind: what they compute, what they are made of, who accepts them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import paddle
import pytest
from paddle import nn
from paddle.static import InputSpec

from picoquant.detector.modes import evaluation_mode
from picoquant.errors import ConfigError, PicoquantError, UserError, WeightsError
from picoquant.evaluation import decoder_for, dygraph_predictor, open_predictor
from picoquant.evaluation.export_parity import verify_export
from picoquant.export.output_copies import copy_outputs
from picoquant.export.paddle_export import build_form, export_model, write_layer
from picoquant.paddle_program.edit import write_program
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.program import complete, complete_program, program_facts, read_program
from picoquant.postprocess import Decoder
from picoquant.utils.paddle_version.tracing import newer_programs
from tests.networks.exported import SIZE, make_detector

KINDS = ("raw", "boxes", "detections")
CELLS = (8 * 12, 4 * 6, 2 * 3, 1 * 2)  # of 64 x 96 pixels at the strides 8, 16, 32, 64


@pytest.mark.parametrize("kind", KINDS)
def test_computes_what_the_network_computes(detector, exports, images, kind):
    assert verify_export(detector, exports[kind], images) <= 1e-4


def test_inputs_and_outputs(exports):
    facts = {kind: program_facts(folder.model) for kind, folder in exports.items()}
    image = ("image", (-1, 3, *SIZE))
    assert facts["raw"].inputs == facts["boxes"].inputs == (image,)
    assert facts["detections"].inputs == (image, ("scale_factor", (-1, 2)))

    def shapes(kind):
        return [shape for _, shape in facts[kind].outputs]

    assert shapes("raw") == [(-1, n, width) for width in (3, 1, 32) for n in CELLS]
    assert shapes("boxes") == [(-1, sum(CELLS), 4), (-1, 3, sum(CELLS))]
    assert shapes("detections") == [(-1, 6), (-1,)]
    assert not any(fact.quantised for fact in facts.values())
    assert exports["raw"].config.arch == "PicoDet" and exports["detections"].config.arch == "GFL"
    raw_outputs = {kind: folder.config.raw_outputs for kind, folder in exports.items()}
    assert raw_outputs == {"raw": "logits", "boxes": "scores", "detections": "scores"}
    assert not {"sigmoid", "sqrt"} & set(facts["raw"].operators[-20:])  # the head's end is the host's


def test_the_three_kinds_detect_the_same_as_the_network(detector, exports, images, infer_config):
    scale = np.array([[0.5, 0.25], [1, 2], [1, 1]], np.float32)
    expected = Decoder("boxes", infer_config.nms).decode(
        dygraph_predictor(detector)({"image": images}), scale
    )
    for kind, folder in exports.items():
        predictor = open_predictor(folder)
        outputs = predictor({"image": images, "scale_factor": scale})
        for want, have in zip(expected, decoder_for(predictor, folder.config).decode(outputs, scale)):
            assert len(want) == len(have) == infer_config.nms.keep_top_k, kind
            np.testing.assert_allclose(np.sort(have.scores), np.sort(want.scores), atol=1e-4)


def test_leaves_the_network_in_its_mode(detector, infer_config, tmp_path):
    detector.train()
    export_model(detector, tmp_path, "raw", SIZE, infer_config)
    assert detector.training and detector.backbone.training
    assert sorted(file.name for file in tmp_path.iterdir()) == [
        "infer_cfg.yml",
        "model.pdiparams",
        "model.pdmodel",
    ]
    detector.eval()


def test_a_fixed_batch_takes_any_number_of_images(detector, exports, infer_config, images, tmp_path):
    """Three images through a model for two: one full batch, one filled up."""
    for kind in ("raw", "detections"):
        folder = export_model(detector, tmp_path / kind, kind, SIZE, infer_config, batch_size=2)
        assert program_facts(folder.model).inputs[0][1] == (2, 3, *SIZE)
        feed = {"image": images, "scale_factor": np.ones((3, 2), np.float32)}
        for have, want in zip(open_predictor(folder)(feed), open_predictor(exports[kind])(feed)):
            assert have.shape == want.shape
            np.testing.assert_allclose(have, want, atol=1e-4)


def test_other_weights_are_found_out(exports, images):
    other = make_detector(4)
    for kind in KINDS:
        with pytest.raises(PicoquantError, match="does not compute what the network computes"):
            verify_export(other, exports[kind], images)


def test_the_program_is_complete_and_holds_no_folder_names(exports):
    for folder in exports.values():
        for op in read_program(folder.model).blocks[0].ops:
            names = [attribute.name for attribute in op.attrs]
            assert "op_callstack" not in names
            assert op.type != "relu6" or "threshold" in names
        before = folder.model.read_bytes()
        complete_program(folder.model)
        assert folder.model.read_bytes() == before


@pytest.mark.parametrize("batch_size", (None, 2))
@pytest.mark.parametrize("kind", KINDS)
def test_the_files_are_those_that_paddle_saves(detector, infer_config, tmp_path, kind, batch_size):
    ours = export_model(detector, tmp_path / "ours", kind, SIZE, infer_config, batch_size)
    specs = [InputSpec([batch_size, 3, *SIZE], "float32", "image")]
    if kind == "detections":
        specs.append(InputSpec([batch_size, 2], "float32", "scale_factor"))
    saved(build_form(detector, kind, infer_config.nms), specs, tmp_path / "model")
    assert ours.model.read_bytes() == (tmp_path / "model.pdmodel").read_bytes()
    assert ours.params.read_bytes() == (tmp_path / "model.pdiparams").read_bytes()


def saved(form, specs, prefix):
    """`paddle.jit.save`'s files, with the attributes that opt needs, on Paddle 3 translated."""
    with evaluation_mode(form), paddle.utils.unique_name.guard(), newer_programs() as newer:
        paddle.jit.save(paddle.jit.to_static(form, input_spec=specs, full_graph=True), str(prefix))
    program = read_program(prefix.with_suffix(".json" if newer else ".pdmodel"))
    if newer:
        copy_outputs(program)
    complete(program)
    write_program(program, prefix.with_suffix(".pdmodel"))


def test_a_layer_s_hook_and_its_buffers_are_written(tmp_path):
    layer = nn.Conv2D(3, 2, 1)
    layer.register_buffer("shift", paddle.to_tensor([7.0]))
    layer.register_forward_post_hook(lambda layer, _, result: result + layer.shift)
    write_layer(layer, [InputSpec([None, 3, 2, 2], "float32", "image")], tmp_path)
    image = np.random.RandomState(0).rand(2, 3, 2, 2).astype(np.float32)
    wanted = layer.forward(paddle.to_tensor(image)).numpy() + 7
    folder = ModelFolder.open(tmp_path, config=InferConfig((2, 2), ("one",)))
    (found,) = open_predictor(folder)({"image": image})
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert paddle.in_dynamic_mode()


@pytest.mark.parametrize("kind", ("raw", "boxes"))
def test_paddle2onnx_accepts_it(exports, images, tmp_path, kind):
    pytest.importorskip("paddle2onnx", reason="paddle2onnx has no wheel for this Python")
    import onnxruntime

    folder, onnx_file = exports[kind], tmp_path / "model.onnx"
    script = "import sys, paddle2onnx; paddle2onnx.export(*sys.argv[1:], opset_version=13)"
    # A process of its own: paddle2onnx aborts on what it dislikes.
    command = [sys.executable, "-c", script, str(folder.model), str(folder.params), str(onnx_file)]
    subprocess.run(command, check=True, capture_output=True)
    session = onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])
    for have, want in zip(session.run(None, {"image": images}), open_predictor(folder)({"image": images})):
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_paddle_lite_accepts_it(exports, tmp_path, kind, opt):
    opt.run(exports[kind].model, exports[kind].params, tmp_path / "model.nb", "arm")
    assert (tmp_path / "model.nb").stat().st_size > 1 << 20


def test_unknown_kind_and_sizes_that_disagree(detector, infer_config, tmp_path):
    with pytest.raises(ConfigError, match="'nms' is unknown: raw, boxes or detections"):
        export_model(detector, tmp_path, "nms", SIZE, infer_config)
    with pytest.raises(ConfigError, match=r"\[32, 32\].*\[64, 96\]"):
        export_model(detector, tmp_path, "raw", (32, 32), infer_config)


def test_a_folder_that_cannot_be_made(detector, infer_config, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="part of the path is a file"):
        export_model(detector, tmp_path / "file" / "out", "raw", SIZE, infer_config)


def test_damaged_files_are_named(exports, infer_config, tmp_path):
    model, params = tmp_path / "model.pdmodel", tmp_path / "model.pdiparams"
    model.write_bytes(exports["raw"].model.read_bytes())
    params.write_bytes(exports["raw"].params.read_bytes()[:5000])
    folder = ModelFolder.open(tmp_path, config=infer_config)
    with pytest.raises(WeightsError, match=r"model\.pdiparams does not fit model\.pdmodel"):
        open_predictor(folder)
    for damaged in (exports["raw"].model.read_bytes()[:5000], b"no program", b""):
        model.write_bytes(damaged)
        with pytest.raises(WeightsError, match=r"model\.pdmodel is"):
            open_predictor(folder)
