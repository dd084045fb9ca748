"""How the states of a quantisation are evaluated, on a trained network."""

from __future__ import annotations

import pytest

from picoquant import build_detector
from picoquant.backends.paddle.runtime import decoder_for, open_predictor
from picoquant.detector.weights import load_weights
from picoquant.evaluation.fidelity import agreement, detections_as_objects
from picoquant.export.paddle_export import export_model
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.stages import datasets
from picoquant.stages.evaluating import evaluate_model, evaluation_images
from picoquant.stages.plan import load_plan
from picoquant.stages.scoring import Scoring
from picoquant.stages.stage import Context

IMAGES = 8


@pytest.fixture(scope="module")
def exported(shared, tmp_path_factory):
    model = build_detector("picodet_s_416_coco_npu.yml", num_classes=3)
    load_weights(model, shared / "weights/picodet_s_npu_bccd.pdparams")
    model.eval()
    config = InferConfig((192, 192), ("RBC", "WBC", "Platelets"))
    return export_model(model, tmp_path_factory.mktemp("fp32"), "raw", (192, 192), config)


@pytest.fixture(scope="module")
def images(shared, exported):
    sets = [
        f"EvalDataset.dataset_dir={shared / 'datasets/bccd'}",
        "EvalDataset.image_dir=JPEGImages",
        "EvalDataset.anno_path=instances_val.json",
        "worker_num=0",
    ]
    context = Context(load_plan("picodet_s_qat_dis", sets), None, "cpu")
    dataset = datasets.first(datasets.load(context, "EvalDataset"), IMAGES)
    return evaluation_images(dataset, context.plan.eval_reader_of(exported.config), 0)


def scoring(exported, images, reference):
    predictor = open_predictor(exported)
    decoder = decoder_for(predictor, exported.config)
    return predictor, decoder, Scoring(decoder, predictor.input_names, images, reference, "cpu")


def test_without_a_reference_it_is_map_alone(exported, images):
    predictor, decoder, score = scoring(exported, images, None)
    found = score(predictor)
    assert found.fidelity is None
    assert found.mAP == evaluate_model(predictor, decoder, images).metrics["mAP"] > 0.05


def test_fp32_agrees_with_itself(exported, images):
    # The reference runs in ONNX Runtime, the model here in Paddle.
    predictor, _, score = scoring(exported, images, exported)
    assert score(predictor).fidelity == pytest.approx(1.0, abs=1e-3)


def test_fidelity_is_that_to_what_fp32_detects(exported, images):
    predictor, decoder, score = scoring(exported, images, exported)

    def coarse(feed):
        """Distances in fewer steps, as of a poor INT8 model."""
        return [out if out.shape[-1] == 3 else (out * 2).round() / 2 for out in predictor(feed)]

    coarse.input_names = predictor.input_names
    expected = evaluate_model(predictor, decoder, images).detections
    others = evaluate_model(coarse, decoder, images)
    dataset = images.dataset
    truth = detections_as_objects(dataset.ground_truth(), expected)
    found = score(coarse)
    assert found.mAP == others.metrics["mAP"]
    assert found.fidelity == pytest.approx(agreement(truth, others.detections, dataset.image_ids), abs=1e-3)
    assert 0.3 < found.fidelity < 0.97


def test_a_model_that_detects_nothing_is_compared_by_map(exported, images, tmp_path, caplog):
    model = build_detector("picodet_s_416_coco_npu.yml", num_classes=3)
    model.eval()
    random = export_model(model, tmp_path / "random", "raw", (192, 192), exported.config)
    caplog.set_level("INFO", logger="picoquant")
    predictor, _, score = scoring(exported, images, ModelFolder.open(random.path))
    assert score(predictor).fidelity is None and score(predictor).fidelity is None
    assert caplog.text.count("FP32 detects nothing with a score of 0.3 or more") == 1
