"""The README's five lines on real data: microscope images and PaddleDetection's own trained weights.

python -m pytest -m slow tests/stages/test_bccd.py
"""

from __future__ import annotations

import json
import re

import pytest

from tests.command_line import picoquant


@pytest.mark.slow
def test_the_readmes_example_keeps_its_accuracy(root, shared, tmp_path, opt):
    readme = (root / "README.md").read_text(encoding="utf-8")
    recipe = re.search(r"^```yaml\n(_BASE_.*?)^```$", readme, re.M | re.S).group(1)
    weights = shared / "weights/picodet_s_npu_bccd.pdparams"
    for written, here in (
        ("best_model.pdparams", weights),
        ("dataset_dir: cells", f"dataset_dir: {shared}/datasets/bccd"),
    ):
        assert written in recipe
        recipe = recipe.replace(written, str(here))
    (tmp_path / "cells.yaml").write_text(recipe)
    assert "picoquant run --config cells.yaml --save-dir output/cells" in readme
    done = picoquant(
        "run", "--config", "cells.yaml", "--save-dir", tmp_path, "--opt", opt.path, cwd=tmp_path, timeout=3000
    )
    assert done.returncode == 0, done.stderr
    stages = json.loads((tmp_path / "run.json").read_text())["stages"]
    fp32, int8 = (stages["evaluate"]["metrics"][name]["mAP"] for name in ("fp32", "int8"))
    assert fp32 == pytest.approx(0.3402, abs=0.002)  # PaddleDetection's own, shared/weights/README.md
    assert fp32 - int8 < 0.01
    assert (tmp_path / "package/rv1126/model.nb").stat().st_size > 1_000_000
