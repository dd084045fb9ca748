"""What an INT8 model reaches on an NPU that runs everything in INT8, and what is refused for it."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.errors import UserError
from picoquant.int8.files import open_network
from picoquant.stages import board_accuracy as board
from picoquant.stages.plan import load_plan
from picoquant.stages.stage import Context
from picoquant.targets.profiles import load_target
from tests.data.coco_sets import write_set
from tests.networks.quick_int8 import LABELS, quick_int8

RV1126 = (load_target("rv1126"),)


def metrics(int8, whole, **more):
    return {"mAP": int8, "every_tensor_mAP": whole, **more}


@pytest.fixture
def context(tmp_path):
    """A recipe with two images, on which the random networks here find nothing right."""
    data = write_set(tmp_path / "data", 2, section="EvalDataset")
    path = tmp_path / "data/instances.json"
    path.write_text(
        path.read_text().replace('"seven"', f'"{LABELS[0]}"').replace('"three"', f'"{LABELS[1]}"')
    )
    sets = [f"EvalDataset.{key}={getattr(data, key)}" for key in ("dataset_dir", "image_dir", "anno_path")]
    return Context(load_plan("picodet_s_qat_dis", [*sets, "worker_num=0"]), None, "cpu")


def test_without_post_processing_it_is_that_of_every_tensor(context, models):
    assert board.board_accuracy(context, models(), metrics(0.35, 0.34), RV1126) == {"rv1126": 0.34}
    assert board.board_accuracy(context, models(), metrics(0.35, 0.305), RV1126) == {"rv1126": 0.305}
    with pytest.raises(
        UserError, match="has mAP 0.3500 in integer .* 0.3000 as rv1126 .*`picoquant analyze`"
    ):
        board.board_accuracy(context, models(), metrics(0.35, 0.30), RV1126)


def test_boxes_that_an_npu_computes_in_int8_are_refused(context, models, opt):
    for kind in ("detections", "boxes"):
        with pytest.raises(UserError) as caught:
            board.board_accuracy(context, models(kind=kind), metrics(0.3456, 0.0384), RV1126)
        text = str(caught.value)
        assert "mAP 0.3456 in integer runtimes, but 0.0384 as rv1126 computes it" in text
        assert (
            "not left to the CPU: export without it (export.post_process=false)" in text and "\n" not in text
        )


def test_without_opt_the_npu_is_taken_to_run_all(context, models, tmp_path, caplog):
    lone = Context(context.plan, None, "cpu", opt=str(tmp_path / "none"))
    with pytest.raises(UserError, match="but 0.0384 as rv1126 computes it"):
        board.board_accuracy(lone, models(kind="boxes"), metrics(0.3456, 0.0384), RV1126)
    assert board.board_accuracy(lone, models(kind="boxes"), metrics(0.31, 0.3), RV1126) == {"rv1126": 0.3}


def test_targets_that_compute_in_float_too_lose_nothing(context, models):
    for name in ("arm_cpu", "generic_onnx"):
        found = board.board_accuracy(context, models(kind="boxes"), metrics(0.3, 0.0), (load_target(name),))
        assert found == {}


def test_what_was_not_evaluated_has_no_figure(context, models):
    assert board.board_accuracy(context, models(kind="boxes"), {}, RV1126) == {}


def test_what_was_measured_is_not_measured_again(context, models):
    known = metrics(0.31, 0.29, board_mAP={"rv1126": 0.295})
    assert board.board_accuracy(context, models(kind="boxes"), known, RV1126) == {"rv1126": 0.295}


def test_as_split_is_simulated_with_opts_own_split(context, models, opt):
    assert board.board_accuracy(context, models(kind="boxes"), metrics(0.0, 0.0), RV1126) == {"rv1126": 0.0}


def test_it_is_said_before_a_quantisation(context, models, caplog):
    board.warn_of_postprocessing(context, models(kind="boxes"))
    assert "post-processing is inside" in caplog.text and "rv1126 computes everything in INT8" in caplog.text
    caplog.clear()
    board.warn_of_postprocessing(context, models())
    assert not caplog.records


def test_tensors_of_the_npu_are_those_of_opts_split(context, models, opt):
    recipe = Context(context.plan, None, "cpu", opt=str(opt.path))
    assert set(open_network(models()).held) <= board._held(recipe, models(), *RV1126)
    inside = open_network(models(kind="boxes"))
    on_cpu = set(inside.held) - board._held(recipe, models(kind="boxes"), *RV1126)
    computed = {op.name: op.op_type for op in inside.graph.operators}
    assert {computed[name] for name in on_cpu} >= {"sqrt", "reshape2", "concat"}
    assert not any(computed.get(name, "").startswith("conv") for name in on_cpu)


@pytest.mark.slow  # the refusal itself is tested above without a trained network
def test_a_trained_network_with_nms_inside(shared, opt, tmp_path):
    """Boxes in pixels of the image, in steps of an 127th of the largest: nothing useful is left of the mAP."""
    import cv2

    from picoquant import build_detector
    from picoquant.data.formats.coco import load_coco
    from picoquant.detector.weights import load_weights
    from picoquant.export.paddle_export import export_model
    from picoquant.paddle_program.infer_config import InferConfig
    from picoquant.stages.evaluate import evaluate_alone

    model = build_detector("picodet_s_416_coco_npu.yml", num_classes=3)
    load_weights(model, shared / "weights/picodet_s_npu_bccd.pdparams")
    model.eval()
    sets = [
        f"EvalDataset.dataset_dir={shared / 'datasets/bccd'}",
        "EvalDataset.image_dir=JPEGImages",
        f"EvalDataset.anno_path={shared / 'cases/annotations_without_id.json'}",
        "worker_num=0",
    ]
    context = Context(load_plan("picodet_s_qat_dis", sets), None, "cpu")
    records = load_coco(context.plan.eval_dataset, training=False).records
    pictures = [cv2.resize(cv2.imread(record.path), (320, 320))[..., ::-1] for record in records[:4]]
    images = np.stack(pictures).transpose(0, 3, 1, 2).astype(np.float32) / 255
    config = InferConfig((320, 320), ("RBC", "WBC", "Platelets"))
    exported = export_model(model, tmp_path / "fp32", "detections", (320, 320), config)
    int8 = quick_int8(exported, tmp_path / "int8", images)
    sets.append(f"Global.model_dir={int8.path}")
    runtime = evaluate_alone("picodet_s_qat_dis", sets, "cpu", str(tmp_path))["paddle_inference"]["mAP"]
    whole = board._simulated(context, int8, frozenset(open_network(int8).held))
    assert runtime > 0.25 and whole < 0.1
    with pytest.raises(UserError, match=f"mAP {runtime:.4f} in integer runtimes, but {whole:.4f} as rv1126"):
        board.board_accuracy(context, int8, metrics(runtime, whole), RV1126)
