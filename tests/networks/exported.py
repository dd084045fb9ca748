"""A small detector that gives outputs as varied as a trained one, and how its exports are described."""

from __future__ import annotations

import numpy as np

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


CONFIG = InferConfig(SIZE, ("one", "two", "three"), nms=NmsSettings(0.05, 0.5, 200, 20))
