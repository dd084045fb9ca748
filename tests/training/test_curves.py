"""The picture of a training, drawn from its CSV files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from picoquant.storage.csv_log import CsvLog, read_rows
from picoquant.training.curves import draw_curves, running_mean


def written(folder: Path, steps: int, evaluations: int) -> tuple[Path, Path]:
    metrics, scores = folder / "metrics.csv", folder / "evaluations.csv"
    log = CsvLog(metrics, ["step", "epoch", "lr", "loss_vfl", "loss", "images_per_second"])
    for step in range(1, steps + 1):
        log.write(step=step, epoch=1, lr=0.01, loss_vfl=1 / step, loss=2 / step, images_per_second=9.5)
    if evaluations:
        log = CsvLog(scores, ["step", "epoch", "mAP", "AP50"])
        for index in range(1, evaluations + 1):
            log.write(step=10 * index, epoch=index, mAP=0.1 * index, AP50=0.2 * index)
    return metrics, scores


@pytest.mark.parametrize(("steps", "evaluations"), [(1, 0), (1, 1), (30, 0), (200, 3)])
def test_a_picture_of_any_length(tmp_path, steps, evaluations):
    out = tmp_path / "curves.png"
    assert draw_curves(*written(tmp_path, steps, evaluations), out)
    image = cv2.imread(str(out))
    panels = 3 if evaluations else 2
    assert image.shape == (330 * panels, 990, 3)  # 9 x 3 inches a panel, 110 dots an inch
    for panel in np.split(image, panels):
        coloured = panel.max(axis=-1).astype(int) - panel.min(axis=-1) > 60
        assert coloured.sum() > 20, "a panel shows nothing"


def test_the_same_rows_give_the_same_bytes(tmp_path):
    files = written(tmp_path, 50, 2)
    draw_curves(*files, tmp_path / "one.png")
    draw_curves(*files, tmp_path / "two.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


def test_no_rows_no_picture(tmp_path):
    assert not draw_curves(*written(tmp_path, 0, 0), tmp_path / "curves.png")
    assert not draw_curves(tmp_path / "absent.csv", tmp_path / "none.csv", tmp_path / "curves.png")
    assert not (tmp_path / "curves.png").exists()


def test_running_mean_by_hand():
    # Windows of 2: 4; (4+2)/2; (2+6)/2; (6+0)/2.
    assert running_mean([4, 2, 6, 0], 2).tolist() == [4, 3, 4, 3]
    assert running_mean([4, 2, 6, 0], 1).tolist() == [4, 2, 6, 0]


def test_rows_up_to_a_step_without_a_cut_one(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("step,loss,extra\n1,0.5,\n2,0.25,7\n3,0.1,8\n4,0.")
    assert read_rows(path, until=2) == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": 0.25, "extra": 7}]
    assert len(read_rows(path)) == 3
