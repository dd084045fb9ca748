"""PaddleDetection's numbers of convolutions; made by its own code (`create(cfg.architecture)`), noted here."""

from __future__ import annotations

import pytest

from picoquant.config.detector import parse_detector
from picoquant.detector.build import build_picodet
from picoquant.errors import ConfigError
from picoquant.pruning.names import chosen_weights, numbered, weights_of
from picoquant.yaml_files.load import load_detection_config

EXPECTED = {
    # The squeeze-and-excite layers that its pruner's page names, and the last ones of the head.
    "legacy_model/picodet_m_320_coco.yml": {
        "conv2d_17": "backbone.2_3._se.conv1.weight", "conv2d_18": "backbone.2_3._se.conv2.weight",
        "conv2d_56": "backbone.3_7._se.conv1.weight", "conv2d_76": "backbone.4_3._se.conv2.weight",
        "conv2d_147": "head.head_cls0.weight", "conv2d_148": "head.head_cls1.weight",
    },
    "picodet_s_416_coco_npu.yml": {
        "conv2d_0": "backbone.conv1.conv.weight", "conv2d_50": "neck.downsamples.0.dwconv.weight",
        "conv2d_108": "head.head_cls_list.0.weight", "conv2d_112": "head.head_cls_list.1.weight",
    },
    "picodet_s_416_coco_lcnet.yml": {
        "conv2d_84": "head.head_cls_list.0.weight", "conv2d_88": "head.head_cls_list.1.weight",
    },
}  # fmt: skip


@pytest.mark.parametrize("config", EXPECTED)
def test_the_numbers(config):
    for _ in range(2):  # paddle goes on counting in a second network
        model = build_picodet(parse_detector(load_detection_config(config), 3))
        found = numbered(model)
        assert {name: found.get(name) for name in EXPECTED[config]} == EXPECTED[config]
    assert set(found.values()) == {name for name, value in weights_of(model).items() if value.ndim == 4}


def test_patterns_layers_and_names():
    weights = dict.fromkeys(["neck.a.weight", "neck.b.weight", "head.a.weight"])
    numbers = {"conv2d_0": "neck.a.weight"}
    for wanted, found in (
        ("neck.*", ["neck.a.weight", "neck.b.weight"]), ("*.a", ["neck.a.weight", "head.a.weight"]),
        ("head.a", ["head.a.weight"]), ("conv2d_0.w_0", ["neck.a.weight"]), ("neck.b.weight", ["neck.b.weight"]),
    ):  # fmt: skip
        assert chosen_weights("key", wanted, weights, numbers) == found
    with pytest.raises(
        ConfigError, match="key: the network has no weights 'tail.*'; Pruner.print_params=true prints"
    ):
        chosen_weights("key", "tail.*", weights, numbers)
