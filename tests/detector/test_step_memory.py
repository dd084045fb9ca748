"""A step that does not fit into the memory that is free is foreseen, and what fits is said."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from picoquant.data.input_size import largest_input
from picoquant.data.settings import ReaderSettings, TransformSpec
from picoquant.detector import step_memory as memory
from picoquant.stages.plan import load_plan
from picoquant.training.onednn.engine import bfloat16_available
from picoquant.utils.device import free_memory


@pytest.fixture(scope="module")
def network():
    from picoquant.detector.build import build_picodet

    return build_picodet(load_plan("picodet_xs_320_coco_lcnet").detector)


def test_values_of_an_image_grow_with_its_area(network):
    """XS at 320 px: 10.5 million, of which its convolutions return 5.4 million."""
    modes = [layer.training for layer in network.sublayers()]
    values = memory.values_of_one_image(network, (320, 320))
    assert 10.4e6 < values < 10.6e6
    assert memory.values_of_one_image(network, (640, 320)) == 2 * values
    assert [layer.training for layer in network.sublayers()] == modes
    assert memory.images_that_fit(network, (320, 320), 9 * values * 7) == 7
    assert memory.images_that_fit(network, (320, 320), 6 * values * 7, bfloat16=True) == 7


MEASURE = """
import sys
import picoquant, paddle
from picoquant import build_detector
from picoquant.detector.step_memory import bytes_of_one_image
from picoquant.training.fast import FastLayers, tuned_cpu
from picoquant.training.onednn.library import Kind

def kilobytes(name):
    return [int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)][0]

images, bfloat16 = 8, sys.argv[2] == "bfloat16"
model = build_detector(sys.argv[1], 80)
model.train()
layers = FastLayers(model, precision=Kind.BF16 if bfloat16 else Kind.F32)
expected, image = images * bytes_of_one_image(model, (320, 320), bfloat16), paddle.rand([images, 3, 320, 320])
with tuned_cpu():
    before = kilobytes("VmRSS")
    for _ in range(2):
        with layers.on():
            loss = model.loss(image, paddle.ones([images, 1, 4]) * 60, paddle.zeros([images, 1, 1], "int32"),
                              paddle.ones([images, 1, 1]), 0)["loss"]
        loss.backward()
        model.clear_gradients()
print((kilobytes("VmHWM") - before) * 1024 / expected)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
@pytest.mark.parametrize("config, precision", [
    ("picodet_xs_320_coco_lcnet.yml", "floats"),
    pytest.param("picodet_xs_320_coco_lcnet.yml", "bfloat16", marks=pytest.mark.skipif(
        not bfloat16_available(), reason="this processor does not multiply bfloat16")),
])  # fmt: skip
def test_a_step_takes_about_what_is_foreseen(root, config, precision):
    """In a process of its own, which has taken nothing before."""
    command = [sys.executable, "-c", MEASURE, str(root / "configs" / config), precision]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 0.6 < float(done.stdout.splitlines()[-1]) < 1.3


@pytest.mark.parametrize(
    ("images", "said"), [(4, ""), (9, "enough for 4: --set TrainReader.batch_size=4, and")]
)
def test_what_fits_is_said(network, monkeypatch, caplog, images, said):
    monkeypatch.setattr(memory, "free_memory", lambda: 432_000_000)
    caplog.set_level(logging.WARNING)
    memory.warn_of_memory(network, (320, 320), images)
    assert said in caplog.text and bool(caplog.text) == bool(said)
    assert ("a step of 9 images of 320x320 may need" in caplog.text) == bool(said)
    assert ("Train.accumulate_steps=3 for" in caplog.text) == bool(said)


def test_processes_of_a_group_share_what_is_free(network, monkeypatch, caplog):
    monkeypatch.setattr(memory, "free_memory", lambda: 432_000_000)
    monkeypatch.setattr(memory, "rank_and_world", lambda: (0, 4))
    memory.warn_of_memory(network, (320, 320), 2)
    assert "enough for 1:" in caplog.text


def test_where_the_memory_is_not_known(network, monkeypatch, caplog):
    monkeypatch.setattr(memory, "free_memory", lambda: None)
    memory.warn_of_memory(network, (320, 320), 10_000)
    assert not caplog.text


@pytest.mark.parametrize(
    ("available", "group", "free"),
    [
        ("MemAvailable: 76 kB", {}, 76 * 1024),
        ("MemTotal: 9 kB", {}, None),
        ("MemAvailable: 76 kB", {"max": "max\n", "current": "5\n", "stat": ""}, 76 * 1024),
        (
            "MemAvailable: 76 kB",
            {"max": "9000", "current": "8000", "stat": "file 1\ninactive_file 500\n"},
            1500,
        ),
        ("MemAvailable: 1 kB", {"max": "9000", "current": "100", "stat": ""}, 1024),
        ("MemAvailable: 1 kB", {"max": "90", "current": "100", "stat": ""}, 0),
    ],
)
def test_free_memory(tmp_path, available, group, free):
    (tmp_path / "meminfo").write_text(f"{available}\n")
    for name, content in group.items():
        (tmp_path / f"memory.{name}").write_text(content)
    assert free_memory(tmp_path / "meminfo", tmp_path) == free
    assert free_memory(tmp_path / "gone", tmp_path) is None


@pytest.mark.parametrize(
    ("transforms", "largest"),
    [
        ([], (96, 64)),
        ([("BatchRandomResize", {"target_size": [64, 128, 96]})], (128, 128)),
        ([("BatchRandomResize", {"target_size": [[64, 160], [96, 96]]})], (64, 160)),
        ([("BatchRandomResize", {"target_size": 96, "random_size": False})], (96, 96)),
    ],
)
def test_the_largest_input(transforms, largest):
    specs = tuple(TransformSpec(name, {"keep_ratio": False, **params}) for name, params in transforms)
    assert largest_input(ReaderSettings((TransformSpec("Decode"),), specs), (96, 64)) == largest
