"""A network that trains in milliseconds, feeds for it, and settings of a short quantisation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import paddle
from paddle import nn

from picoquant.export.paddle_export import write_layer
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.batch_norm_folding import fold_folder
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.quantization.settings import DistillationSettings, QatTrainSettings, QuantizationSections

SIZE = 32
CONFIG = InferConfig((SIZE, SIZE), ("ball", "box"))
FLAT = {"optimizer": {"type": "SGD"}, "weight_decay": 4.0e-05}


class Small(nn.Layer):
    """Stem, depthwise, pointwise, all with batch-norm, and two heads; weights from `seed`.

    Input `[N, 3, 32, 32]`; outputs `[N, 2, 8, 8]` and `[N, 4, 8, 8]`.
    """

    def __init__(self, seed: int = 3) -> None:
        super().__init__()
        layers = _block(3, 8, 3, 2) + _block(8, 8, 3, 2, groups=8) + _block(8, 12, 1, 1)
        self.body = nn.Sequential(*layers)
        self.scores, self.boxes = nn.Conv2D(12, 2, 1), nn.Conv2D(12, 4, 1)
        draw_weights(self, seed)

    def forward(self, image):
        features = self.body(image)
        return nn.functional.sigmoid(self.scores(features)), self.boxes(features)


def draw_weights(layer: nn.Layer, seed: int) -> None:
    """Random weights, scales and variances of batch-norms above 0.5."""
    generator = np.random.RandomState(seed)
    for name, value in layer.state_dict().items():
        drawn = generator.randn(*value.shape).astype("float32")
        positive = "_variance" in name or (value.ndim == 1 and name.endswith("weight"))
        value.set_value(0.5 + np.abs(drawn) if positive else 0.4 * drawn)


def _block(inputs: int, outputs: int, size: int, stride: int, groups: int = 1) -> list:
    conv = nn.Conv2D(inputs, outputs, size, stride, size // 2, groups=groups, bias_attr=False)
    return [conv, nn.BatchNorm2D(outputs), nn.ReLU6()]


def export_small(folder, batch_size=None, seed: int = 3) -> None:
    """Write the network as an inference model for any number of images, or for a fixed one."""
    with paddle.utils.unique_name.guard():
        network = Small(seed)
        network.eval()
        spec = [paddle.static.InputSpec([batch_size, 3, SIZE, SIZE], "float32", "image")]
        write_layer(network, spec, Path(folder))


def loaded_and_folded(make: Callable[[], nn.Layer], folder: Path, shape: Sequence[int]) -> ProgramModel:
    """A network exported and loaded again with its batch-norm folded.

    Args:
        make: gives the network.
        folder: for the files.
        shape: of an image, `C, H, W`.

    Returns: the loaded model.
    """
    spec = [paddle.static.InputSpec([-1, *shape], "float32", "image")]
    with paddle.utils.unique_name.guard():
        network = make()
        network.eval()
        write_layer(network, spec, Path(folder))
    fold_folder(folder)
    return ProgramModel.load(folder)


def batches(start: int) -> Iterator[dict[str, np.ndarray]]:
    """Endless feeds of two images; a step always gives the same."""
    step = start
    while True:
        image = np.random.RandomState(step).rand(2, 3, SIZE, SIZE).astype("float32")
        yield {"image": image, "scale_factor": np.ones((2, 2), np.float32)}
        step += 1


def settings(steps: int = 3, quant=None, distillation=None, **changes) -> QuantizationSections:
    """Settings of a short quantisation.

    Args:
        steps: `train_iter`.
        quant, distillation: changes to the sections `QuantAware` and `Distillation`.
        changes: to `TrainConfig`.
    """
    train = {"learning_rate": 1e-3, "optimizer_builder": FLAT, "eval_iter": 2, **changes}
    return QuantizationSections(
        DistillationSettings(**(distillation or {})),
        QuantAwareSettings(**(quant or {})),
        QatTrainSettings(train_iter=steps, **train),
        calibration_batches=2,
        checkpoint_seconds=0.0,
    )
