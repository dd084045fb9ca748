"""A network with a hard-swish that is written out with a factor for each channel, as equalisation leaves it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
from paddle import nn

from picoquant.export.paddle_export import write_layer
from picoquant.paddle_program.batch_norm_folding import fold_folder
from picoquant.paddle_program.infer_config import InferConfig, write_infer_config
from picoquant.paddle_program.model_folder import ModelFolder

SIZE, CHANNELS = 16, 8
FACTORS = np.linspace(0.4, 3.0, CHANNELS)


class Gated(nn.Layer):
    """Convolution, written-out hard-swish, and three readers of it: dense, depthwise, a mean."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2D(3, CHANNELS, 3, padding=1)
        self.gate = nn.Conv2D(CHANNELS, CHANNELS, 1, groups=CHANNELS)
        self.dense = nn.Conv2D(CHANNELS, 4, 1)
        self.depthwise = nn.Conv2D(CHANNELS, CHANNELS, 3, padding=1, groups=CHANNELS)
        random = np.random.RandomState(0)
        for value in self.state_dict().values():
            value.set_value(random.randn(*value.shape).astype("float32") * 0.5)
        self.gate.weight.set_value(FACTORS.reshape(-1, 1, 1, 1).astype("float32"))
        self.gate.bias.set_value(np.full(CHANNELS, 3, "float32"))

    def forward(self, image):
        x = self.first(image)
        y = x * nn.functional.relu6(self.gate(x))
        mean = nn.functional.adaptive_avg_pool2d(y, 1)
        return self.dense(y), self.depthwise(y) * nn.functional.sigmoid(mean)


def write_gated(folder: Path) -> ModelFolder:
    """The float network as a model folder."""
    with paddle.utils.unique_name.guard():
        network = Gated()
        network.eval()
        spec = [paddle.static.InputSpec([None, 3, SIZE, SIZE], "float32", "image")]
        write_layer(network, spec, folder)
    fold_folder(folder)
    write_infer_config(InferConfig((SIZE, SIZE), ("ball",)), folder)
    return ModelFolder.open(folder)
