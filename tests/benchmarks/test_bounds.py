"""The least that whole pieces of work take, by hand."""

from __future__ import annotations

import json

import pytest

from benchmarks.speed import bounds
from benchmarks.stage_speed import pixels_of, work_of_packages

RATES = {
    "jpegs": 1e6, "one image, int8": 0.01, "one image, fp32": 0.03, "calibration, 64 images": 5.0,
    "320: one image, int8": 0.02, "320: one image, fp32": 0.05, "320: calibration, 64 images": 3.0,
    "320: QAT step, batch 8": 0.5, "files, read": 1e9, "files, written": 1e8,
    "files, json": 1e3, "files, opened": 50.0,
}  # fmt: skip
BYTES = {"bytes_read": int(1e9), "bytes_written": int(1e8), "packing": 10.0}  # 1 s read, 1 s written


def test_evaluation_and_ptq():
    said = {"pixels": 2e6, "images": 100}
    assert bounds.evaluation("int8")(RATES, said) == pytest.approx(2 + 1)
    assert bounds.evaluation("fp32")(RATES, said) == pytest.approx(2 + 3)
    said = {"pixels": 2e6, "images": 64, "evaluated": 100}
    assert bounds.ptq(RATES, said) == pytest.approx(2 + 5 + 1)


def test_the_five_lines_are_the_sum_of_their_parts():
    said = {
        "pixels": 4e6,
        "calibrated": 64,
        "steps": 60,
        "batch": 8,
        "evaluated": 100,
        "evaluations": 3,
        **BYTES,
    }
    assert bounds.run(RATES, said) == pytest.approx(4 + 3 + 30 + 3 * 2 + 5 + 12)


def test_packages_and_the_start(tmp_path):
    assert bounds.packages(RATES, BYTES) == pytest.approx(12)
    bound = bounds.start(tmp_path, 200)
    (tmp_path / "instances.json").write_text("x" * 3000)
    assert bound(RATES, {}) == pytest.approx(3 + 4)


@pytest.mark.parametrize(
    "bound", [bounds.ptq, bounds.run, bounds.packages, bounds.named("none"), bounds.evaluation("x")]
)
def test_what_is_not_known_has_none(bound):
    assert bound({}, BYTES) is None and bound(RATES, {}) is None


def test_what_is_counted_of_a_run(tmp_path):
    for name, size in {
        "export/model.pdmodel": 10, "quantize/int8.npz": 20, "quantize/qat_graph/model": 1000, "train/model": 1000,
        "package/rv1126/README.md": 3, "package/rv1126/onnx/model.onnx": 4, "package/rv1126.tar.gz": 1000,
    }.items():  # fmt: skip
        path = tmp_path / "run" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes(size))
    found = work_of_packages(tmp_path / "run")
    assert 0 < found.pop("packing") < 5 and found == {"bytes_read": 30, "bytes_written": 7}
    file = tmp_path / "datasets" / "bccd" / "instances_val.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"images": [{"width": 3, "height": 5}, {"width": 2, "height": 2}]}))
    assert pixels_of(tmp_path, "val") == [15, 4]
