"""A trained network over real images, through every form of it."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import numpy as np
import pytest

from picoquant.data.formats.coco import load_coco
from picoquant.data.readers.reader import EvalReader
from picoquant.data.settings import DatasetSettings, ReaderSettings, TransformSpec
from picoquant.errors import WeightsError
from picoquant.evaluation import decoder_for, dygraph_predictor, evaluate, open_predictor
from picoquant.evaluation.evaluate import evaluate_sliced
from picoquant.evaluation.voc_metrics import VOC_METRICS
from picoquant.export import InferConfig
from picoquant.paddle_program.network_input import select_inputs
from picoquant.postprocess import Decoder, NmsSettings
from picoquant.postprocess.merge import MERGES, MergeSettings
from picoquant.runtimes.sliced import Slicing

SIZE = (320, 320)
# PaddleDetection's own evaluation of these weights on these images.
MAP, AP50, AP75 = 0.3402, 0.5746, 0.3685


def transforms(size):
    resize = {"interp": 2, "target_size": list(size), "keep_ratio": False}
    normalise = {"mean": [0, 0, 0], "std": [1, 1, 1], "is_scale": True}
    return (
        TransformSpec("Decode"),
        TransformSpec("Resize", resize),
        TransformSpec("NormalizeImage", normalise),
        TransformSpec("Permute"),
    )


@pytest.fixture(scope="module")
def bccd(shared):
    folder = shared / "datasets" / "bccd"
    settings = DatasetSettings(
        dataset_dir=str(folder),
        image_dir="JPEGImages",
        anno_path="instances_val.json",
        section="EvalDataset",
    )
    return load_coco(settings, training=False)


@pytest.fixture(scope="module")
def trained(shared):
    import picoquant
    from picoquant.detector.weights import load_weights

    model = picoquant.build_detector("picodet_s_416_coco_npu.yml", num_classes=3)
    load_weights(model, shared / "weights" / "picodet_s_npu_bccd.pdparams")
    model.eval()
    return model


@pytest.fixture(scope="module")
def reader(bccd):
    """All batches of a reader, read once for all tests."""
    return list(EvalReader(bccd, ReaderSettings(transforms(SIZE), batch_size=8), 0))


@pytest.mark.parametrize("kind", ["dygraph", "raw", "boxes", "detections"])
def test_bccd_equals_paddledetection(kind, trained, bccd, reader, tmp_path, caplog):
    caplog.set_level(logging.INFO, "picoquant")
    if kind == "dygraph":
        predictor, decoder = dygraph_predictor(trained), Decoder("boxes", NmsSettings())
    else:
        from picoquant.export.paddle_export import export_model

        config = InferConfig(SIZE, bccd.class_names)
        folder = export_model(trained, tmp_path, kind, SIZE, config)
        predictor = open_predictor(folder)
        decoder = decoder_for(predictor, folder.config)
    found = evaluate(predictor, decoder, bccd, reader, title=kind)
    assert found.metrics["mAP"] == pytest.approx(MAP, abs=0.002)
    assert found.metrics["AP50"] == pytest.approx(AP50, abs=0.002)
    assert found.metrics["AP75"] == pytest.approx(AP75, abs=0.002)
    assert list(found.per_class) == ["RBC", "WBC", "Platelets"]
    assert found.images == 87 and found.images_per_second > 0
    assert f"{kind} image 8" in caplog.text and "image 87/87" in caplog.text
    check_by_hand(found, bccd, tmp_path)


def check_by_hand(found, dataset, tmp_path):
    """pycocotools on the files, as a user would run it."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    found.write_detections(tmp_path / "detections.json", dataset)
    assert json.loads((tmp_path / "detections.json").read_text()) == found.detections
    coco = COCO(str(dataset.annotation_file))
    evaluation = COCOeval(coco, coco.loadRes(str(tmp_path / "detections.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert list(found.metrics.values()) == pytest.approx(evaluation.stats.tolist(), rel=0, abs=1e-12)


def test_nothing_detected(trained, bccd):
    decoder = Decoder("boxes", NmsSettings(score_threshold=1.0))
    few = EvalReader(bccd, ReaderSettings(transforms((64, 64)), batch_size=64), 0)
    found = evaluate(dygraph_predictor(trained), decoder, bccd, few)
    assert found.detections == [] and found.metrics["mAP"] == 0


def test_predicting_leaves_the_mode(trained):
    trained.train()
    boxes, scores = dygraph_predictor(trained)({"image": np.zeros((1, 3, 64, 64), np.float32)})
    assert trained.training and boxes.shape == (1, 85, 4) and scores.shape == (1, 3, 85)
    trained.eval()


def test_feed_of():
    batch = {name: np.array([number]) for number, name in enumerate(("image", "scale_factor", "x"))}
    assert list(select_inputs(batch, ["image", "scale_factor"])) == ["image", "scale_factor"]
    assert select_inputs(batch, ["x0"])["x0"] is batch["image"]
    with pytest.raises(WeightsError, match="input 'x', but only image, scale_factor, im_shape"):
        select_inputs(batch, ["image", "x"])


def test_in_parts(trained, bccd):
    """One part is the image itself; cells of 640x480 in parts of 320 are found where they are, by either merge."""
    few = replace(bccd, records=bccd.records[:5])
    config, decoder = InferConfig(SIZE, bccd.class_names), Decoder("boxes", NmsSettings())
    network = dygraph_predictor(trained)
    whole = evaluate(
        network, decoder, few, EvalReader(few, ReaderSettings(transforms(SIZE), batch_size=1), 0)
    )
    one = evaluate_sliced(network, decoder, few, config, Slicing((640, 640)), voc=True)
    assert one.detections == whole.detections and one.images == 5
    assert one.metrics == {**whole.metrics, **{name: one.metrics[name] for name in VOC_METRICS}}
    for method in MERGES:
        slicing = Slicing((320, 320), 0.25, MergeSettings(method))
        found = evaluate_sliced(network, decoder, few, config, slicing)
        assert found.metrics["AP50"] > 0.5 * whole.metrics["AP50"], method
        boxes = np.array([entry["bbox"] for entry in found.detections])
        assert (boxes[:, :2] + boxes[:, 2:]).max(axis=0) == pytest.approx([640, 480], abs=1)
