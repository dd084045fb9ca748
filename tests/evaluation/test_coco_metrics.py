"""COCO numbers against hand-worked cases and pycocotools used by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from picoquant.data.dataset import Dataset
from picoquant.evaluation import METRICS, coco_metrics, coco_results
from picoquant.evaluation.results import Results, ResultsOf
from picoquant.postprocess import Detections


def annotated(boxes, categories=((1, "a"),), images=1):
    """Annotations of category 1, all on image 1, unless a box brings `(image, category, box)`."""
    entries = []
    for number, box in enumerate(boxes, start=1):
        image, category, box = box if len(box) == 3 else (1, 1, box)
        entries.append({"id": number, "image_id": image, "category_id": category, "bbox": box})
    return {
        "images": [{"id": i, "width": 640, "height": 480} for i in range(1, images + 1)],
        "categories": [{"id": number, "name": name} for number, name in categories],
        "annotations": entries,
    }


def result(box, score, image=1, category=1):
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


def random_case(seed: int, per_image: int):
    """Annotations with gaps in the category ids and results that are near them, or not."""
    random = np.random.RandomState(seed)
    truth, results = [], []
    for image in range(1, 7):
        for _ in range(random.randint(0, 9)):
            x, y, w, h = (random.rand(4) * [400, 300, 200, 150] + 4).tolist()
            category = int(random.choice([3, 7, 90]))
            truth.append((image, category, [x, y, w, h]))
            near = (np.array([x, y, w, h]) * (1 + 0.08 * random.randn(4))).tolist()
            results.append(result(near, float(random.rand()), image, category))
        for _ in range(per_image):
            box = (random.rand(4) * [400, 300, 90, 90] + 2).tolist()
            results.append(result(box, float(random.rand() / 2), image, 7))
    return annotated(truth, ((3, "c"), (7, "g"), (90, "z")), images=6), results


SAME = {"abs": 1e-12, "rel": 0}  # pycocotools adds 2e-16 to each divisor


def by_hand(truth, results, tmp_path, capsys):
    """What a user gets who runs pycocotools on the two files."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    complete = [
        {"area": entry["bbox"][2] * entry["bbox"][3], "iscrowd": 0, **entry} for entry in truth["annotations"]
    ]
    (tmp_path / "truth.json").write_text(json.dumps({**truth, "annotations": complete}))
    (tmp_path / "results.json").write_text(json.dumps(results))
    coco = COCO(str(tmp_path / "truth.json"))
    evaluation = COCOeval(coco, coco.loadRes(str(tmp_path / "results.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    capsys.readouterr()
    return evaluation.stats.tolist()


def test_one_box_found_exactly():
    # 100 x 100 pixels is a large object; there are no small and no medium ones.
    metrics, classes = coco_metrics(annotated([[10, 10, 100, 100]]), [result([10, 10, 100, 100], 0.9)])
    assert list(metrics) == list(METRICS)
    for name in ("mAP", "AP50", "AP75", "APl", "AR1", "AR10", "AR100", "ARl"):
        assert metrics[name] == pytest.approx(1)
    for name in ("APs", "APm", "ARs", "ARm"):
        assert metrics[name] == -1
    assert classes == {"a": pytest.approx(1)}


def test_an_iou_of_0_7_counts_up_to_0_7():
    # 70 of 100 columns: IoU 0.7, a hit at 0.5, 0.55, 0.6, 0.65 and 0.7: 5 of the 10 thresholds.
    truth, found = annotated([[0, 0, 100, 100]]), [result([0, 0, 70, 100], 0.9)]
    metrics, _ = coco_metrics(truth, found)
    assert metrics["mAP"] == pytest.approx(0.5)
    assert metrics["AP50"] == pytest.approx(1) and metrics["AP75"] == 0


@pytest.mark.parametrize("seed, per_image", [(0, 3), (1, 0), (2, 150)])
def test_equals_pycocotools_by_hand(seed, per_image, tmp_path, capsys):
    truth, results = random_case(seed, per_image)  # 150: more than the 100 that count
    metrics, classes = coco_metrics(truth, results)
    assert capsys.readouterr().out == ""
    assert list(metrics.values()) == pytest.approx(by_hand(truth, results, tmp_path, capsys), **SAME)
    assert np.mean(list(classes.values())) == pytest.approx(metrics["mAP"])


def test_equal_scores_and_crowds_count_as_in_pycocotools(tmp_path, capsys):
    truth, results = random_case(3, 40)
    for entry in truth["annotations"][::3]:
        entry["iscrowd"] = 1
    for entry in results:  # five different scores: the order among equals decides
        entry["score"] = round(entry["score"] * 4) / 4
    metrics, _ = coco_metrics(truth, results)
    expected = by_hand(truth, results, tmp_path, capsys)
    assert list(metrics.values()) == pytest.approx(expected, **SAME)
    for entry in truth["annotations"]:
        entry["iscrowd"] = 0
    assert coco_metrics(truth, results)[0]["mAP"] != pytest.approx(expected[0], **SAME)  # crowds mattered


def test_no_detections_at_all():
    truth, _ = random_case(0, 0)
    metrics, classes = coco_metrics(truth, [])
    assert metrics["mAP"] == metrics["AP50"] == metrics["AR100"] == 0
    assert set(classes.values()) == {0}


def test_a_class_without_objects_has_no_ap_and_does_not_count():
    truth = annotated([[0, 0, 50, 50]], ((1, "a"), (2, "b")))
    metrics, classes = coco_metrics(truth, [result([0, 0, 50, 50], 0.5)])
    assert classes == {"a": pytest.approx(1), "b": None}
    assert metrics["mAP"] == pytest.approx(1)


def test_only_the_images_asked_for_count():
    truth = annotated([(1, 1, [0, 0, 50, 50]), (2, 1, [0, 0, 50, 50])], images=2)
    found = [result([0, 0, 50, 50], 0.5)]
    assert coco_metrics(truth, found)[0]["AR1"] == pytest.approx(0.5)
    assert coco_metrics(truth, found, [1])[0]["AR1"] == pytest.approx(1)


def test_results_hold_category_ids_and_width_and_height():
    detections = Detections(
        np.array([0, 1]),
        np.array([0.5, 0.25], np.float32),
        np.array([[1, 2, 4, 8], [0, 0, 1, 1]], np.float32),
    )
    results = coco_results(np.int64(9), detections, (3, 90))
    assert results[0] == result([1.0, 2.0, 3.0, 6.0], 0.5, 9, 3)
    assert results[1]["category_id"] == 90
    json.dumps(results)


def test_columns_are_the_entries_of_a_results_file():
    """An eighth of what mappings take, and the same floats."""
    random, ids = np.random.default_rng(0), (3, None, 90)
    collected, expected = ResultsOf(ids), []
    for image in (7, 9, 11):
        count = 0 if image == 9 else 5
        found = Detections(
            random.integers(0, 3, count),
            random.random(count, dtype="float32"),
            random.normal(50, 30, (count, 4)).astype("float32"),
        )
        collected.add(np.int64(image), found)
        expected += coco_results(image, found, ids)
    results = collected.results()
    assert results == expected and list(results) == expected and len(results) == len(expected) > 3
    assert [results[place] for place in (0, -1)] == [expected[0], expected[-1]]
    assert results[1:3] == expected[1:3] and results != expected[1:]
    assert json.loads("".join(results.json_parts(Dataset((), (), ())))) == expected
    assert Results.of(expected) == expected and Results.of([]) == []
    assert ResultsOf(ids).results() == [] and "".join(Results.of([]).json_parts(None)) == "[]"
    assert sum(column.nbytes for column in vars(results).values()) <= 56 * len(results)
