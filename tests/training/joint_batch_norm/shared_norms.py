"""Batch norms behind convolutions, whose images processes share; as a script, `shared_norms.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

import picoquant  # noqa: F401  isort: skip  (zlib before paddle)
import numpy as np
import paddle
from paddle import nn

from picoquant.training.fast import fast_convolutions_available, traced, tuned_cpu
from picoquant.training.graphs.tracing import any_size, program_of
from picoquant.training.joint_batch_norm.layer import synchronised
from picoquant.training.joint_batch_norm.rewrite import JointRewrite
from picoquant.training.onednn.engine import bfloat16_available, engine_of
from picoquant.training.onednn.library import AVX2, Kind, library
from picoquant.utils.process_group import Group

SHARES = slice(0, 4), slice(4, 6)  # images of the two processes: not the same number
STEPS = 2


class Norms(nn.Layer):
    """`[N, 3, 8, 8]` -> `[N, 5, 4, 4]`."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2D(3, 4, 3), nn.BatchNorm2D(4, momentum=0.7)
        self.second, self.last = nn.Conv2D(4, 5, 3, bias_attr=False), nn.BatchNorm2D(5, epsilon=1e-3)
        self.side, self.beside = nn.Conv2D(4, 17, 3, bias_attr=False), nn.BatchNorm2D(17)
        self.narrow = nn.Conv2D(17, 5, 1)

    def forward(self, images):
        x = nn.functional.relu6(self.norm(self.first(images)))
        return self.last(self.second(x)) + self.narrow(nn.functional.relu6(self.beside(self.side(x))))


def computed(share: slice, group: Group | None = None, form: str = "dygraph") -> dict[str, np.ndarray]:
    """Result, gradients and running statistics after two steps on some of the images.

    Args:
        share: which.
        group: processes that have the others; the gradients of parameters are summed over them.
        form: `graph`: traced, with oneDNN's convolutions; `engine`, `bfloat16`: without Paddle, in this precision.
    """
    random = np.random.RandomState(0)
    images = (random.rand(6, 3, 8, 8) * np.arange(1, 7).reshape(6, 1, 1, 1)).astype("float32")[share]
    wanted = paddle.to_tensor(random.rand(6, 5, 4, 4).astype("float32")[share])
    paddle.seed(0)
    network = Norms()
    if group:
        network = synchronised(network, group)
    inputs = paddle.to_tensor(images, stop_gradient=False)
    run = network.forward
    if form == "graph":
        run = traced(network.forward, (inputs,), [any_size(inputs)], JointRewrite(group) if group else None)
    elif form != "dygraph":
        kept = {name: value.clone() for name, value in network.state_dict().items()}
        program, _ = program_of(network.forward, (inputs,), [any_size(inputs)])
        network.set_state_dict(kept)
        run = engine_of(program, network, Kind.BF16 if form == "bfloat16" else Kind.F32, group)
    for _ in range(STEPS):
        network.clear_gradients()
        inputs.clear_gradient()
        outputs = run(inputs)
        outputs = outputs[0] if isinstance(outputs, (list, tuple)) else outputs
        (outputs * wanted).sum().backward()
    found = {"outputs": outputs.numpy(), "images' gradient": inputs.grad.numpy()}
    for name, value in network.named_parameters():
        if value.grad is not None:
            sums = value.grad.numpy().astype("float64")
            found[f"{name}'s gradient"] = group.sum(sums) if group else sums
    running = {name: value.numpy() for name, value in network.state_dict().items() if "._" in name}
    return {**found, **running}


def forms() -> list[str]:
    """The forms that this machine has."""
    found = ["dygraph"]
    if fast_convolutions_available():
        found += ["graph"]
        if library() is not None and library().has(AVX2):
            found += ["engine"]
    return found + ["bfloat16"] * bfloat16_available()


if __name__ == "__main__":
    group = Group()
    with tuned_cpu():
        for form in forms():
            np.savez(
                Path(sys.argv[1]) / f"{form}_{group.rank}.npz", **computed(SHARES[group.rank], group, form)
            )
