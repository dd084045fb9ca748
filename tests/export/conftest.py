"""A small detector and its exports, made once."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.export import InferConfig
from picoquant.postprocess import NmsSettings

SIZE = (64, 96)


def make_detector(seed: int):
    """A PicoDet-S-NPU of three classes whose random weights give outputs as varied as trained ones."""
    import picoquant

    model = picoquant.build_detector("picodet_s_416_coco_npu.yml", num_classes=3)
    random = np.random.RandomState(seed)
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    for name, value in state.items():
        shape = value.shape
        if len(shape) == 4:
            fan_in = shape[1] * shape[2] * shape[3]
            state[name] = random.randn(*shape) * np.sqrt(2 / fan_in)
        elif name.endswith(("bias", "_mean")):
            state[name] = 0.1 * random.randn(*shape)
        elif not name.endswith("project"):
            state[name] = 0.5 + random.rand(*shape)
    model.set_state_dict({name: value.astype(np.float32) for name, value in state.items()})
    model.eval()
    return model


@pytest.fixture(scope="session")
def detector():
    """The network that is exported."""
    return make_detector(3)


@pytest.fixture(scope="session")
def infer_config() -> InferConfig:
    return InferConfig(SIZE, ("one", "two", "three"), nms=NmsSettings(0.05, 0.5, 200, 20))


@pytest.fixture(scope="session")
def images() -> np.ndarray:
    """`[3, 3, 64, 96]`, 0 to 1."""
    return np.random.RandomState(0).rand(3, 3, *SIZE).astype(np.float32)


@pytest.fixture(scope="session")
def exports(detector, infer_config, tmp_path_factory):
    """Model folders by kind."""
    from picoquant.export.paddle_export import export_model

    folder = tmp_path_factory.mktemp("exports")
    return {
        kind: export_model(detector, folder / kind, kind, SIZE, infer_config)
        for kind in ("raw", "boxes", "detections")
    }
