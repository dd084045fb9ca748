"""Makes the programs of Paddle 3 beside this file: `python -m tests.paddle_program.pir.make`, on PaddlePaddle 3.3.1.

`small` is the network of `tests/networks/small_net.py` as PaddleX 3 writes one, `operators` has at least one of nearly
every operator that is read. `outputs.npz` beside each is what Paddle 3 computes in dygraph.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import paddle
from paddle import nn

from picoquant.utils.paddle_version.tracing import newer_programs

F = nn.functional
FOLDER = Path(__file__).parent
INFERENCE_YML = """\
Global:
  model_name: PicoDet-S
Hpi:
  backend_configs: {}
mode: paddle
draw_threshold: 0.5
metric: COCO
use_dynamic_shape: false
arch: PicoDet
min_subgraph_size: 3
Preprocess:
- interp: 2
  keep_ratio: false
  target_size: [32, 32]
  type: Resize
- mean: [0.485, 0.456, 0.406]
  norm_type: mean_std
  std: [0.229, 0.224, 0.225]
  type: NormalizeImage
- type: Permute
label_list: [ball, box]
NMS: {keep_top_k: 100, name: MultiClassNMS, nms_threshold: 0.5, nms_top_k: 1000, score_threshold: 0.3}
fpn_stride: [8, 16, 32, 64]
"""


class Operators(nn.Layer):
    """`[N, 4, 8, 8]` -> a list of whatever its operators give."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2D(4, 8, 3, stride=2, padding=1)
        self.depthwise = nn.Conv2D(8, 8, 3, padding="SAME", groups=8, bias_attr=False)
        self.norm = nn.BatchNorm2D(8)
        self.up = nn.Conv2DTranspose(8, 4, 2, stride=2)
        self.linear = nn.Linear(4, 3)

    def forward(self, image):
        small = self.norm(self.depthwise(F.relu(self.conv(image))))  # [N, 8, 4, 4]
        given = []
        for activation in (
            F.relu6, F.hardswish, F.hardsigmoid, F.swish, F.silu, F.mish, F.gelu, F.elu, F.leaky_relu, F.softplus,
            F.sigmoid, F.tanh, paddle.square, paddle.exp, paddle.abs, paddle.floor, paddle.ceil,
        ):  # fmt: skip
            given.append(activation(small))
        given.append(
            paddle.log(paddle.sqrt(paddle.clip(small, 0.5, 2.0))) + paddle.rsqrt(small * small + 1.0)
        )
        given.append((small / 3.0 - 2.0) ** 2.0)
        given.append(paddle.maximum(small, given[0]) * paddle.minimum(small, given[1]) / (given[3] + 4.0))
        given.append(F.interpolate(small, scale_factor=2, mode="nearest"))
        given.append(F.interpolate(small, size=[6, 10], mode="bilinear", align_corners=False))
        given.append(self.up(small))
        given.append(F.avg_pool2d(small, 3, stride=1, padding=1))
        given.append(F.max_pool2d(small, 2))
        given.append(F.adaptive_avg_pool2d(small, 1))
        shuffled = small.reshape([small.shape[0], 2, 4, small.shape[2], small.shape[3]]).transpose(
            [0, 2, 1, 3, 4]
        )
        given.append(shuffled.reshape([small.shape[0], 8, 4, 4]))
        first, second, third = paddle.split(small, [2, 5, 1], axis=1)
        half, other = paddle.chunk(small, 2, axis=1)
        given.append(paddle.concat([third, first, second, other, half], axis=1))
        rows = small.flatten(2)  # [N, 8, 16]
        given.append(F.softmax(self.linear(rows.reshape([0, 0, 4, 4])), axis=-1))
        given.append(paddle.matmul(rows, rows, transpose_y=True))
        given += [rows.mean(axis=-1), rows.sum(axis=[1, 2]), rows.max(axis=1, keepdim=True), rows.min(axis=2)]
        given.append(paddle.stack([rows[:, 1:5], rows[:, :, 2:3].expand([-1, 8, 16])[:, 4:]], axis=1))
        given.append(rows.unsqueeze(1).squeeze(1)[:, 3])
        points = paddle.to_tensor(np.arange(8, dtype=np.float32).reshape(1, 8, 1) + 0.5)
        given.append(rows + points)
        given.append(paddle.where(rows > 0.1, rows, paddle.full_like(rows, -1.0)))
        given.append(paddle.gather(rows, paddle.to_tensor([2, 0], dtype="int64"), axis=1).tile([1, 1, 2]))
        given.append((rows > 0.0).astype("float32") - (rows <= 0.5).astype("int32").astype("float32"))
        return given


def write(layer: nn.Layer, shape: list[int], folder: Path) -> None:
    """Export a layer for any number of images, and what it gives for two."""
    layer.eval()
    spec = [paddle.static.InputSpec([None, *shape], "float32", "image")]
    image = np.random.RandomState(1).rand(2, *shape).astype(np.float32)
    given = layer(paddle.to_tensor(image))
    with newer_programs():
        paddle.jit.save(
            paddle.jit.to_static(layer, input_spec=spec, full_graph=True), str(folder / "inference")
        )
    np.savez_compressed(folder / "outputs.npz", image, *(value.numpy() for value in given))


def make() -> None:
    """Write both folders."""
    from tests.networks.small_net import SIZE, Small

    with paddle.utils.unique_name.guard():
        write(Small(), [3, SIZE, SIZE], FOLDER / "small")
    (FOLDER / "small" / "inference.yml").write_text(INFERENCE_YML, encoding="utf-8")
    paddle.seed(0)
    with paddle.utils.unique_name.guard():
        write(Operators(), [4, 8, 8], FOLDER / "operators")


if __name__ == "__main__":
    make()
