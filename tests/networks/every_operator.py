"""A network with each operator that a zero point matters for, quantised with zero points."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import paddle
import paddle.nn.functional as F
from paddle import nn

from picoquant.export.paddle_export import write_layer
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.quantization.quantize import quantize
from picoquant.quantization.settings import QuantizationSettings
from tests.networks.small_net import CONFIG, SIZE, batches, settings


class EveryOperator(nn.Layer):
    """Padded convolutions (dense, depthwise, strided), ReLU, ReLU6, hard-swish, sigmoid, hard sigmoid, sums, products,
    concats with shared scales, means of a window and of all, a maximum, a resize.

    Input `[N, 3, 32, 32]`; outputs `[N, 256, 6]` and `[N, 64, 4]`.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depthwise = nn.Conv2D(3, 8, 3, 2, 1), nn.Conv2D(8, 8, 5, 1, 2, groups=8)
        self.beside, self.squeeze, self.gate = (
            nn.Conv2D(8, 8, 3, 1, 1),
            nn.Conv2D(16, 4, 1),
            nn.Conv2D(4, 16, 1),
        )
        self.one, self.two, self.head = nn.Conv2D(16, 8, 1), nn.Conv2D(16, 4, 1), nn.Conv2D(24, 6, 3, 1, 1)
        generator = np.random.RandomState(5)
        for value in self.state_dict().values():
            drawn = generator.randn(*value.shape).astype("float32")
            fan = np.prod(value.shape[1:]) if value.ndim > 1 else 4
            value.set_value(drawn * np.float32(np.sqrt(2 / fan)))

    def forward(self, image):
        stem = F.hardswish(self.stem(image))
        total = stem + F.relu(self.depthwise(stem))
        both = paddle.concat([total, F.relu6(self.beside(stem))], axis=1)
        gate = F.hardsigmoid(self.gate(F.relu(self.squeeze(F.adaptive_avg_pool2d(both, 1)))))
        scaled = both * gate
        less = F.avg_pool2d(scaled, 2)
        most = F.max_pool2d(scaled, 2)
        up = F.interpolate(F.sigmoid(self.one(less + most)), scale_factor=2, mode="nearest")
        return _cells(self.head(paddle.concat([up, scaled], axis=1))), _cells(self.two(less))


def _cells(value):
    return value.flatten(2).transpose([0, 2, 1])


def quantised_with_zero_points(folder: Path, symmetric: bool = False, **own) -> ModelFolder:
    """The network as `quantize` makes it after calibration, in the folder `model`; the float one is in `fp32`."""
    paddle.disable_static()
    network = EveryOperator()
    network.eval()
    spec = [paddle.static.InputSpec([-1, 3, SIZE, SIZE], "float32", "image")]
    with paddle.utils.unique_name.guard():
        write_layer(network, spec, folder / "fp32")
    wanted = replace(settings(), quantization=QuantizationSettings(method="ptq", **own))
    wanted = replace(wanted, quant=QuantAwareSettings(symmetric_activations=symmetric))
    quantize(folder / "fp32", folder / "model", folder / "work", batches, wanted, config=CONFIG)
    return ModelFolder.open(folder / "model")
