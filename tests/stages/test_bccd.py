"""The README's example on real data: microscope images and PaddleDetection's own trained weights.

python -m pytest -m slow tests/stages/test_bccd.py
"""

from __future__ import annotations

import json
import re
import shlex

import pytest

from tests.command_line import picoquant


@pytest.mark.slow
def test_the_readmes_example_keeps_its_accuracy(root, shared, tmp_path, opt):
    readme = (root / "README.md").read_text(encoding="utf-8")
    command = re.search(
        r"^picoquant run --config picodet_s_qat_dis\.yaml(?:.*\\\n)*.*$", readme, re.M
    ).group()
    words = shlex.split(command.replace("\\\n", " "))[1:]
    words[words.index("--save-dir") + 1] = str(tmp_path)
    words = [word.replace("../shared", str(shared)) for word in words]
    done = picoquant(*words, "--opt", opt.path, timeout=3000)
    assert done.returncode == 0, done.stderr
    stages = json.loads((tmp_path / "run.json").read_text())["stages"]
    fp32, int8 = (stages["evaluate"]["metrics"][name]["mAP"] for name in ("fp32", "int8"))
    assert fp32 == pytest.approx(0.3402, abs=0.002)  # PaddleDetection's own, shared/weights/README.md
    assert fp32 - int8 < 0.01
    assert (tmp_path / "package/rv1126/model.nb").stat().st_size > 1_000_000
