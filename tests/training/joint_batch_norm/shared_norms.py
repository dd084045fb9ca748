"""Two batch norms behind convolutions, whose images processes share; as a script, `shared_norms.py FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

import picoquant  # noqa: F401  isort: skip  (zlib before paddle)
import numpy as np
import paddle
from paddle import nn

from picoquant.training.fast import fast_convolutions_available, traced, tuned_cpu
from picoquant.training.joint_batch_norm.layer import synchronised
from picoquant.training.joint_batch_norm.rewrite import JointRewrite
from picoquant.utils.process_group import Group

SHARES = slice(0, 4), slice(4, 6)  # images of the two processes: not the same number
STEPS = 2


class Norms(nn.Layer):
    """`[N, 3, 8, 8]` -> `[N, 5, 4, 4]`."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2D(3, 4, 3), nn.BatchNorm2D(4, momentum=0.7)
        self.second, self.last = nn.Conv2D(4, 5, 3, bias_attr=False), nn.BatchNorm2D(5, epsilon=1e-3)

    def forward(self, images):
        return self.last(self.second(nn.functional.relu6(self.norm(self.first(images)))))


def computed(share: slice, group: Group | None = None, graph: bool = False) -> dict[str, np.ndarray]:
    """Result, gradients and running statistics after two steps on some of the images.

    Args:
        share: which.
        group: processes that have the others; the gradients of parameters are summed over them.
        graph: traced, with oneDNN's convolutions.
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
    if graph:
        size = paddle.static.InputSpec([None, 3, None, None], stop_gradient=False)
        run = traced(network.forward, (inputs,), [size], JointRewrite(group) if group else None)
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


if __name__ == "__main__":
    group = Group()
    with tuned_cpu():
        for graph in (False, True)[: 1 + fast_convolutions_available()]:
            np.savez(
                Path(sys.argv[1]) / f"{'graph' if graph else 'dygraph'}_{group.rank}.npz",
                **computed(SHARES[group.rank], group, graph),
            )
