"""Detections of parts put together, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.postprocess.detections import Detections
from picoquant.postprocess.merge import MergeSettings, merged


def found(*rows):
    """Class, score, x1, y1, x2, y2."""
    array = np.array(rows, np.float64).reshape(-1, 6)
    return Detections(
        array[:, 0].astype(np.int64), array[:, 1].astype(np.float32), array[:, 2:].astype(np.float32)
    )


def rows(detections):
    columns = (detections.classes[:, None], detections.scores[:, None], detections.boxes)
    return np.concatenate(columns, axis=1).round(4).tolist()


# A car of 100x50 of which the left part's tile has seen the first 70 columns, the right one's the last 40.
LEFT, RIGHT = (0, 0.9, 0, 0, 70, 50), (0, 0.6, 60, 0, 100, 50)
WHOLE = (0, 0.5, 0, 0, 100, 50)


def test_a_piece_matches_the_whole_by_the_smaller_one():
    """Left in whole: all of its own 70 * 50, so 1; by IoU 0.7. Right in whole: 1 and 0.4; left and right: 0.25, 0.1."""
    parts = [found(WHOLE), found(LEFT), found(RIGHT)]
    assert rows(merged(parts, MergeSettings())) == [[0, 0.9, 0, 0, 70, 50], [0, 0.6, 60, 0, 100, 50]]
    by_iou = merged(parts, MergeSettings(metric="iou", threshold=0.7))
    assert rows(by_iou) == [[0, 0.9, 0, 0, 70, 50], [0, 0.6, 60, 0, 100, 50]]
    assert len(merged(parts, MergeSettings(metric="iou", threshold=0.71))) == 3


def test_nmm_keeps_the_box_around_what_matches():
    """The left piece is best and the whole matches it: the box is the whole's."""
    done = merged([found(LEFT), found(WHOLE)], MergeSettings("nmm"))
    assert rows(done) == [[0, 0.9, 0, 0, 100, 50]]
    # What matches the best one's own box is merged; the right piece shares 10 of its 40 columns with that.
    done = merged([found(LEFT), found(WHOLE), found(RIGHT)], MergeSettings("nmm"))
    assert rows(done) == [[0, 0.9, 0, 0, 100, 50], [0, 0.6, 60, 0, 100, 50]]


def test_a_weak_box_makes_no_box_larger():
    """Half of the best one's score joins, less is dropped: a box around everything at 0.44 matches but is not in it."""
    weak, enough = (0, 0.44, 0, 0, 400, 300), (0, 0.45, 0, 0, 90, 50)
    assert rows(merged([found(LEFT), found(weak)], MergeSettings("nmm"))) == [[0, 0.9, 0, 0, 70, 50]]
    both = merged([found(LEFT), found(weak, enough)], MergeSettings("nmm"))
    assert rows(both) == [[0, 0.9, 0, 0, 90, 50]]


def test_other_classes_stay():
    other = (1, 0.8, 0, 0, 70, 50)
    assert rows(merged([found(LEFT), found(other)], MergeSettings())) == [
        [0, 0.9, *LEFT[2:]],
        [1, 0.8, *LEFT[2:]],
    ]


def test_at_the_threshold_boxes_match():
    first, second = (0, 0.9, 0, 0, 10, 10), (0, 0.8, 4, 0, 14, 10)  # 60 of 100 shared
    assert len(merged([found(first), found(second)], MergeSettings(threshold=0.6))) == 1
    assert len(merged([found(first), found(second)], MergeSettings(threshold=0.61))) == 2


def test_the_best_are_kept_and_boxes_without_area_harm_nothing():
    many = found(*((k % 2, 0.1 + k / 100, 20 * k, 0, 20 * k + 10, 10) for k in range(10)))
    kept = merged([many], MergeSettings(keep=3))
    assert kept.classes.tolist() == [0, 1, 1] and kept.scores == pytest.approx([0.18, 0.19, 0.17])
    line = (0, 0.9, 5, 5, 5, 9)
    assert len(merged([found(line), found(line)], MergeSettings())) == 2  # 0 of 0 is no match
    assert len(merged([], MergeSettings())) == 0


@pytest.mark.parametrize("wrong", [{"method": "wbf"}, {"metric": "giou"}, {"threshold": 0.0}, {"keep": 0}])
def test_what_is_not_known_is_refused(wrong):
    with pytest.raises(ValueError, match="known are|is not above"):
        MergeSettings(**wrong)
