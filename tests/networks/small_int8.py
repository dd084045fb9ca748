"""An INT8 program of PicoDet's shape, small enough to know every number: raw outputs of two levels.

Input 32 x 32, strides 8 and 16, 3 classes, reg_max 7. Layers: convolution 8x8 stride 8, batch-norm, relu6,
depthwise 3x3, batch-norm, relu6, then 1x1 convolutions with bias for scores and logits; the second level is
made by a depthwise 3x3 of stride 2. `shared` heads have the same weights at both levels, which opt refuses.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from picoquant.paddle_program.infer_config import InferConfig, write_infer_config
from picoquant.paddle_program.model_folder import MODEL, PARAMS, ModelFolder

CHANNELS = 6
CLASSES = 3
CONFIG = InferConfig((32, 32), ("red cell", "white cell", "platelet"), strides=(8, 16))


class Builder:
    """Writes operators into a static program, quantised as Paddle Lite wants them."""

    def __init__(self, quantised: bool = True) -> None:
        import paddle

        self.paddle, self.quantised = paddle, quantised
        self.random = np.random.default_rng(5)
        self.scope = paddle.static.Scope()
        self.program = paddle.static.Program()
        self.block = self.program.global_block()
        self.count = 0
        self.levels: dict = {}

    def stored(self, name: str, value: np.ndarray):
        value = np.asarray(value, np.float32)
        if not self.block.has_var(name):
            self.block.create_var(name=name, shape=value.shape, dtype="float32", persistable=True)
            self.scope.var(name).get_tensor().set(value, self.paddle.CPUPlace())
        return self.block.var(name)

    def op(self, kind: str, inputs: dict, output: str = "Out", more: dict | None = None, **attrs):
        self.count += 1
        out = self.block.create_var(name=f"tensor_{self.count}", dtype="float32")
        outputs = {output: out, **(more or {})}
        self.block.append_op(type=kind, inputs=inputs, outputs=outputs, attrs=attrs)
        return out

    def unused(self, name: str):
        return self.block.create_var(name=name, dtype="float32")

    def rounded(self, x, top: float):
        """Scale and levels of a tensor, made once for all who take it."""
        if x.name not in self.levels:
            scale = self.stored(f"{x.name}@scale", [top])
            attrs = {"bit_length": 8, "moving_rate": 0.9, "is_test": True}
            inputs, more = {"X": x, "InScale": scale}, {"OutScale": scale}
            kind = "fake_quantize_moving_average_abs_max"
            self.levels[x.name] = scale, self.op(kind, inputs, more=more, **attrs)
        return self.levels[x.name]

    def conv(self, x, name: str, shape: tuple, top: float, stride: int = 1, pad: int = 0):
        """A convolution; `top` is its input's largest value."""
        depthwise = shape[1] == 1 and shape[0] == x.shape[1]
        levels = self.random.integers(-127, 128, shape)
        weight = self.stored(f"{name}.w", levels)
        scale, x = self.rounded(x, top) if self.quantised else (None, x)
        out = self.op(
            "depthwise_conv2d" if depthwise else "conv2d",
            {"Input": x, "Filter": weight},
            "Output",
            strides=[stride] * 2,
            paddings=[pad] * 2,
            dilations=[1, 1],
            groups=shape[0] if depthwise else 1,
            data_format="NCHW",
            padding_algorithm="EXPLICIT",
        )
        if self.quantised:
            scales = self.stored(f"{name}.w@channel_scale", self.random.uniform(0.1, 0.4, shape[0]))
            attrs = {"quant_bits": [8, 8], "quant_axis": 0, "x_num_col_dims": 1}
            inputs = {"X": out, "Scales": [scales, scale]}
            out = self.op("fake_channel_wise_dequantize_max_abs", inputs, **attrs)
        return out

    def norm(self, x, name: str, dead: int | None = None):
        """Batch-norm with a negative factor in channel 1, and hardly any variance in channel `dead`."""
        values = {
            "Scale": self.random.uniform(0.5, 1.5, CHANNELS),
            "Bias": self.random.uniform(-0.5, 2.0, CHANNELS),
            "Mean": self.random.uniform(-0.3, 0.3, CHANNELS),
            "Variance": self.random.uniform(0.5, 2.0, CHANNELS),
        }
        values["Scale"][1] *= -1
        if dead is not None:
            values["Scale"][dead], values["Variance"][dead] = 20.0, 0.0
            values["Mean"][dead], values["Bias"][dead] = 0.0, 0.77
        inputs = {slot: self.stored(f"{name}.{slot}", value) for slot, value in values.items()}
        more = {"MeanOut": inputs["Mean"], "VarianceOut": inputs["Variance"]}
        more.update({slot: self.unused(f"{name}.{slot}") for slot in ("SavedMean", "SavedVariance")})
        attrs = {"epsilon": 1e-5, "is_test": True, "data_layout": "NCHW", "momentum": 0.9}
        return self.op("batch_norm", {"X": x, **inputs}, "Y", more, **attrs)

    def relu6(self, x):
        return self.op("relu6", {"X": x})

    def head(self, x, name: str, channels: int):
        out = self.conv(x, name, (channels, CHANNELS, 1, 1), 6.0)
        bias = self.stored(f"{name}.b", self.random.uniform(-1, 1, (1, channels, 1, 1)))
        return self.op("elementwise_add", {"X": out, "Y": bias}, axis=-1)

    def flat(self, x, channels: int):
        more = {"XShape": self.unused(f"{x.name}.shape")}
        x = self.op("reshape2", {"X": x}, more=more, shape=[0, channels, -1])
        more = {"XShape": self.unused(f"{x.name}.shape")}
        return self.op("transpose2", {"X": x}, more=more, axis=[0, 2, 1])


def network(builder: Builder, shared: bool):
    """Input and outputs of the program."""
    image = builder.paddle.static.data("image", [-1, 3, 32, 32], "float32")
    x = builder.conv(image, "stem", (CHANNELS, 3, 8, 8), 1.0, stride=8)
    x = builder.relu6(builder.norm(x, "stem.norm"))
    # Channel 2 of the next input is always 0, as where a trained network has a dead channel.
    keep = np.ones((1, CHANNELS, 1, 1))
    keep[0, 2] = 0
    x = builder.op("elementwise_mul", {"X": x, "Y": builder.stored("keep", keep)}, axis=-1)
    fine = builder.conv(x, "middle", (CHANNELS, 1, 3, 3), 6.0, pad=1)
    fine = builder.relu6(builder.norm(fine, "middle.norm", dead=2))
    coarse = builder.conv(fine, "down", (CHANNELS, 1, 3, 3), 6.0, stride=2, pad=1)
    coarse = builder.relu6(builder.norm(coarse, "down.norm"))
    names = [("class", "box")] * 2 if shared else [("class0", "box0"), ("class1", "box1")]
    heads = list(zip((fine, coarse), names))
    scores = [builder.op("sigmoid", {"X": builder.head(x, name, CLASSES)}) for x, (name, _) in heads]
    logits = [builder.head(x, name, 32) for x, (_, name) in heads]
    outputs = [builder.flat(x, CLASSES) for x in scores] + [builder.flat(x, 32) for x in logits]
    return image, outputs


def write_small(folder: Path, quantised: bool = True, shared: bool = False) -> ModelFolder:
    """Write the network (its float form with `quantised=False`) as a model folder."""
    import paddle

    paddle.enable_static()
    try:
        builder = Builder(quantised)
        with paddle.static.scope_guard(builder.scope), paddle.static.program_guard(builder.program):
            image, outputs = network(builder, shared)
            executor = paddle.static.Executor(paddle.CPUPlace())
            paddle.static.save_inference_model(
                str(folder / Path(MODEL).stem), [image], outputs, executor, program=builder.program
            )
    finally:
        paddle.disable_static()
    assert (folder / PARAMS).is_file()
    write_infer_config(CONFIG, folder)
    return ModelFolder.open(folder)
