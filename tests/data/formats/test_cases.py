"""Annotation files with the traits of public reports (../shared/cases): each counts as if it had none."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from picoquant.data.formats.coco import load_coco
from picoquant.data.formats.voc.load import load_voc
from picoquant.data.settings import DatasetSettings, ReaderSettings, TransformSpec
from picoquant.errors import DataError
from picoquant.evaluation.coco_metrics import coco_metrics

RIGHT = 0.3073  # cases/README.md


def load(shared, name, **more):
    root = shared / "datasets/bccd"
    anno = str(shared / "cases" / f"{name}.json")
    return load_coco(
        DatasetSettings("coco", str(root), "JPEGImages", anno, section="EvalDataset", **more), False
    )


@pytest.fixture(scope="module")
def detections(shared):
    """What the trained network finds: file name -> (class, score, box) of each detection."""
    import picoquant
    from picoquant.backends.paddle.runtime import dygraph_predictor
    from picoquant.data.readers.reader import EvalReader
    from picoquant.detector.weights import load_weights
    from picoquant.evaluation.evaluate import evaluate
    from picoquant.postprocess import Decoder, NmsSettings

    model = picoquant.build_detector("picodet_s_416_coco_npu.yml", num_classes=3)
    load_weights(model, shared / "weights/picodet_s_npu_bccd.pdparams")
    model.eval()
    resize = {"target_size": [320, 320], "keep_ratio": False, "interp": 2}
    normalise = {"mean": [0, 0, 0], "std": [1, 1, 1], "is_scale": True}
    steps = (
        TransformSpec("Resize", resize),
        TransformSpec("NormalizeImage", normalise),
        TransformSpec("Permute"),
    )
    settings = ReaderSettings((TransformSpec("Decode"), *steps), batch_size=4)
    found: dict[str, list] = {}
    for name in ("annotations_without_id", "mostly_crowds"):
        dataset = load(shared, name)
        names = {record.image_id: Path(record.path).name for record in dataset.records}
        classes = dict(zip(dataset.category_ids, dataset.class_names))
        result = evaluate(
            dygraph_predictor(model),
            Decoder("boxes", NmsSettings()),
            dataset,
            EvalReader(dataset, settings, 0),
        )
        for image in names.values():
            found[image] = []
        for entry in result.detections:
            row = (classes[entry["category_id"]], entry["score"], entry["bbox"])
            found[names[entry["image_id"]]].append(row)
    return found


def results(dataset, detections):
    """The detections as entries of a results file, for this data set."""
    number = dict(zip(dataset.class_names, dataset.category_ids))
    return [
        {"image_id": record.image_id, "category_id": number[name], "score": score, "bbox": box}
        for record in dataset.records
        for name, score, box in detections[Path(record.path).name]
    ]


def mean_ap(dataset, detections):
    truth = dataset.ground_truth()
    return coco_metrics(truth, results(dataset, detections), dataset.image_ids)[0]["mAP"]


@pytest.mark.parametrize(
    "name",
    [
        *("category_order", "annotation_ids_from_zero", "annotation_ids_repeat_over_images"),
        *("annotations_without_id", "ids_as_float", "image_ids_as_text", "image_id_of_annotation_as_text"),
        "negative_sides",
    ],
)
def test_what_is_clear_is_read(shared, detections, name):
    dataset = load(shared, name)
    assert dataset.class_names == ("RBC", "WBC", "Platelets")
    assert len(dataset) == 10 and sum(len(record.boxes) for record in dataset.records) == 211
    assert mean_ap(dataset, detections) == pytest.approx(RIGHT, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "asked", "box_format"),
    [
        ("boxes_0_to_1_val", "211 of 211 boxes are below one pixel.*are they 0 to 1", "xywh_normalised"),
        ("boxes_as_corners", "157 of 211 boxes do not fit .*are they x1, y1, x2, y2", "xyxy"),
    ],
)
def test_what_is_not_clear_is_asked(shared, detections, name, asked, box_format):
    with pytest.raises(DataError, match=f"{asked}.*box_format to {box_format}"):
        load(shared, name)
    assert mean_ap(load(shared, name, box_format=box_format), detections) == pytest.approx(RIGHT, abs=1e-4)


def test_negative_sides_are_said(shared, caplog):
    load(shared, "negative_sides")
    assert (
        "85 of 211 boxes have a negative width or height, such as annotation 1 of image BloodImage_00000.jpg "
        "[491, 177, -231, 199]: read from the other corner"
    ) in caplog.text


def test_crowds_are_counted_and_scored_as_pycocotools_does(shared, detections, tmp_path, caplog):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with caplog.at_level(logging.INFO, "picoquant"):
        dataset = load(shared, "mostly_crowds")
    assert (
        "144 of 218 objects are crowds (iscrowd), such as annotation 1 of image BloodImage_00001.jpg"
        in caplog.text
    )
    (tmp_path / "found.json").write_text(json.dumps(results(dataset, detections)))
    coco = COCO(str(dataset.annotation_file))
    counted = COCOeval(coco, coco.loadRes(str(tmp_path / "found.json")), "bbox")
    counted.evaluate()
    counted.accumulate()
    counted.summarize()
    assert mean_ap(dataset, detections) == pytest.approx(counted.stats[0], abs=1e-12)
    assert counted.stats[0] == pytest.approx(0.2768, abs=1e-4)


def test_voc_from_0_to_1(shared, tmp_path):
    picture = shared / "datasets/bccd/JPEGImages/BloodImage_00000.jpg"
    (tmp_path / "list.txt").write_text(f"{picture} {shared / 'cases/voc_boxes_0_to_1.xml'}\n")
    (tmp_path / "labels.txt").write_text("RBC\nWBC\nPlatelets\n")

    def settings(**more):
        return DatasetSettings("voc", str(tmp_path), anno_path="list.txt", label_list="labels.txt", **more)

    with pytest.raises(
        DataError, match="boxes are below one pixel.*are they 0 to 1.*box_format to xyxy_normalised"
    ):
        load_voc(settings(), training=True)
    record = load_voc(settings(box_format="xyxy_normalised"), training=True).records[0]
    right = load(shared, "annotation_ids_from_zero").records[0]
    assert record.boxes == pytest.approx(right.boxes, abs=0.01)
    assert record.classes.tolist() == right.classes.tolist()
