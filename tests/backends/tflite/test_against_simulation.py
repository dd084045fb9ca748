"""The file in LiteRT against picoquant's simulation of TFLite's kernels: two derivations of the same integers."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.backends.source import Source
from picoquant.backends.tflite.writer import make_tflite
from picoquant.npu.simulation.simulation import NpuSimulation
from picoquant.targets.integer_rules import Arithmetic, MultiplierRule, Rules
from tests.backends.tflite.litert import (
    OWN,
    XNNPACK,
    each_alone,
    every_tensor,
    model_of,
    operator_kinds,
    tensor_types,
)

RULES = Rules(Arithmetic("int8", "tflite", MultiplierRule(31)))
NPU, LCNET = "picodet_s_416_coco_npu.yml", "picodet_xs_320_coco_lcnet.yml"
ESNET, SHUFFLENET = "picodet_s_320_coco.yml", "picodet_shufflenetv2_1x_416_coco.yml"


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).random((1, 3, 64, 64), np.float32)


def compared(folder, image):
    """The file, its tensors by the reference kernels, and how many of them differ from the simulation's."""
    content = make_tflite(Source(folder).network)
    simulation = NpuSimulation(folder, RULES)
    held = simulation.run_steps({"image": image}, keep=True)
    integers = held["image"] + simulation.params["image"].zero_point
    values = every_tensor(content, integers.astype(np.int8).transpose(0, 2, 3, 1))
    different = total = 0
    for index, tensor in enumerate(model_of(content).subgraphs[0].tensors):
        name = tensor.name.decode()
        if name in held:
            found = values[index].astype(int) - simulation.params[name].zero_point
            order = {4: (0, 2, 3, 1), 5: (0, 3, 4, 1, 2)}.get(found.ndim, range(found.ndim))
            wanted = held[name].transpose(tuple(order))
            different += np.count_nonzero(found != wanted)
            total += found.size
    return content, values, different, total


def off_by(content, values, kernels):
    """By how much each operator's results differ from the reference's, whose input it is given: counts by amount."""
    counts = np.zeros(256, int)
    for _, found, wanted in each_alone(content, values, kernels):
        for one, other in zip(found, wanted):
            counts += np.bincount(np.abs(one.astype(int) - other).ravel(), minlength=256)
    return counts


@pytest.mark.parametrize(
    "config", [NPU, LCNET, *(pytest.param(one, marks=pytest.mark.slow) for one in (ESNET, SHUFFLENET))]
)
def test_every_integer_is_the_simulations(config, models, image):
    """Squeeze-and-excitation, hard-swish, leaky ReLU, max pools, splits, channel shuffles, resizes, sigmoids."""
    content, values, different, total = compared(models(config), image)
    assert total > 300_000 and different == 0
    assert tensor_types(content) == {"INT8", "INT32"}
    assert not {"DEQUANTIZE", "CAST"} & set(operator_kinds(content))
    if config == NPU:
        for kernels in (OWN, XNNPACK):
            counts = off_by(content, values, kernels)
            assert counts[2:].sum() == 0 and counts[1] < counts.sum() / 100


@pytest.mark.slow
def test_a_trained_network_on_a_real_image(shared, tmp_path):
    """PicoDet-S-NPU at 320 px: 0 of some ten million integers differ, with XNNPACK none by more than one."""
    import cv2

    import picoquant
    from picoquant.data.images import read_image
    from picoquant.detector.weights import load_weights
    from picoquant.export.paddle_export import export_model
    from picoquant.paddle_program.infer_config import InferConfig
    from tests.networks.quick_int8 import quick_int8

    network = picoquant.build_detector(NPU, num_classes=3)
    load_weights(network, shared / "weights" / "picodet_s_npu_bccd.pdparams")
    network.eval()
    config = InferConfig((320, 320), ("RBC", "WBC", "Platelets"), strides=tuple(network.strides))
    exported = export_model(network, tmp_path / "fp32", "raw", (320, 320), config)
    files = sorted((shared / "datasets" / "bccd" / "JPEGImages").glob("*.jpg"))[:3]
    pixels = [cv2.resize(read_image(file), (320, 320)).astype(np.float32) / 255 for file in files]
    images = np.stack(pixels).transpose(0, 3, 1, 2)
    made = quick_int8(exported, tmp_path / "int8", images=images[1:])
    content, values, different, total = compared(made, images[:1])
    assert total > 8_000_000 and different == 0
    for kernels in (OWN, XNNPACK):
        counts = off_by(content, values, kernels)
        assert counts.sum() > 10_000_000 and counts[2:].sum() == 0
