"""Confusion matrices by hand; what is right is what pycocotools counts as a hit."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.evaluation.confusion import FALSE, IGNORED, confusion, match, match_images

CATEGORIES = [{"id": 3, "name": "a"}, {"id": 7, "name": "b"}]


def thing(category, box, score=None, crowd=0, image=1):
    entry = {"image_id": image, "category_id": category, "bbox": [float(v) for v in box]}
    return {**entry, "iscrowd": crowd} if score is None else {**entry, "score": score}


A, B, FAR = [0, 0, 10, 10], [100, 0, 10, 10], [500, 500, 10, 10]


def test_a_matrix_by_hand():
    truth = {
        "categories": CATEGORIES[::-1],  # the order in the file does not matter
        "annotations": [thing(3, A), thing(7, B), thing(3, [200, 0, 10, 10]), thing(7, A, image=2)],
    }
    results = [
        thing(3, A, 0.9),  # right
        thing(3, B, 0.8),  # b taken for a
        thing(7, FAR, 0.7),  # nothing is there
        thing(3, [200, 0, 10, 10], 0.4),  # under the threshold: missed
        thing(7, [0, 0, 10, 5], 0.6, image=2),  # IoU 0.5: just enough
    ]
    images = match_images(truth, results, [1, 2, 3], 0.5, 0.5)
    found = confusion(truth, images.values(), 0.5, 0.5)
    assert found.classes == ("a", "b")
    np.testing.assert_array_equal(found.counts, [[1, 0, 1], [1, 1, 0], [0, 1, 0]])
    assert (found.right, found.mistaken, found.missed, found.false) == (2, 1, 1, 1)
    assert images[1].right(0) and not images[1].right(1)
    assert [entry["bbox"][0] for entry in images[1].missed] == [200]
    assert images[3].found == ()


def test_the_own_class_comes_first_and_each_object_has_one_detection():
    found = match([thing(7, A, 0.9), thing(3, A, 0.6), thing(3, A, 0.55)], [thing(3, A)], 0.5, 0.5)
    assert found.owner == (FALSE, 0, FALSE)  # the better score is of another class


def test_of_two_objects_the_nearer_one_is_taken():
    objects = [thing(3, [0, 0, 10, 8]), thing(3, [0, 0, 10, 9])]
    assert match([thing(3, A, 0.9), thing(3, A, 0.8)], objects, 0.5, 0.5).owner == (1, 0)


def test_a_crowd_takes_any_number_and_is_not_missed():
    found = match([thing(3, A, 0.9), thing(3, A, 0.8), thing(3, FAR, 0.7)], [thing(3, A, crowd=1)], 0.5, 0.5)
    assert found.owner == (IGNORED, IGNORED, FALSE) and found.missed == []


@pytest.mark.parametrize("seed", range(4))
def test_right_is_what_pycocotools_counts(seed):
    import contextlib
    import io

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    from tests.evaluation.libraries import as_annotations, completed, indexed

    random = np.random.default_rng(seed)

    def boxes(count):
        return [[*random.uniform(0, 60, 2), *random.uniform(10, 40, 2)] for _ in range(count)]

    images = [1, 2, 3, 4, 5]
    truth = {
        "images": [{"id": image} for image in images],
        "categories": CATEGORIES,
        "annotations": [
            {"id": 100 * image + n, **thing(int(random.choice([3, 7])), box, image=image)}
            for image in images
            for n, box in enumerate(boxes(8), 1)
        ],
    }
    results = [
        thing(int(random.choice([3, 7])), box, float(random.uniform(0, 1)), image=image)
        for image in images
        for box in boxes(20)
    ]
    counted = confusion(truth, match_images(truth, results, images, 0.3, 0.5).values(), 0.3, 0.5)
    kept = [entry for entry in results if entry["score"] >= 0.3]
    with contextlib.redirect_stdout(io.StringIO()):
        pair = [indexed(COCO(), content) for content in (completed(truth), as_annotations(truth, kept))]
        evaluation = COCOeval(*pair, "bbox")
        evaluation.params.iouThrs = np.array([0.5])
        evaluation.params.areaRng = evaluation.params.areaRng[:1]
        evaluation.evaluate()
    hits = sum(int((image["dtMatches"][0] > 0).sum()) for image in evaluation.evalImgs if image)
    assert counted.right == hits > 0
    assert counted.right + counted.mistaken + counted.missed == len(truth["annotations"])
    assert counted.right + counted.mistaken + counted.false == len(kept)
