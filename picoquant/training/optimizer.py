"""Create the optimiser; save and restore its state by the names of the network's parameters."""

from __future__ import annotations

import numpy as np
import paddle
from paddle import nn
from paddle.optimizer import SGD, Adam, AdamW, Momentum, Optimizer
from paddle.regularizer import L2Decay
from paddle.utils import unique_name

from picoquant.training.precision import Precision
from picoquant.training.settings import OptimizerSettings


def make_optimizer(model: nn.Layer, settings: OptimizerSettings, base_lr: float) -> Optimizer:
    """The optimiser of a network's trainable parameters; its rate is set before every step.

    A parameter's own regulariser and learning-rate factor (`ParamAttr`) override the settings; `AdamW` takes its decay
    off every parameter.
    """
    clip = None
    if settings.clip_grad_by_norm is not None:
        clip = nn.ClipGradByGlobalNorm(settings.clip_grad_by_norm)
    elif settings.clip_grad_by_value is not None:
        clip = nn.ClipGradByValue(settings.clip_grad_by_value)
    common = {
        "learning_rate": base_lr,
        "parameters": [value for value in model.parameters() if value.trainable],
        "grad_clip": clip,
    }
    moments = {"beta1": settings.beta1, "beta2": settings.beta2, "epsilon": settings.epsilon}
    if settings.type == "AdamW":
        return AdamW(weight_decay=settings.weight_decay, **moments, **common)
    common["weight_decay"] = L2Decay(settings.weight_decay) if settings.weight_decay else None
    if settings.type == "Adam":
        return Adam(**moments, **common)
    if settings.type == "SGD":
        return SGD(**common)
    return Momentum(momentum=settings.momentum, use_nesterov=settings.use_nesterov, **common)


def optimizer_step(optimizer: Optimizer, rate: float, precision: Precision) -> None:
    """Update the parameters at learning rate `rate`, then clear the gradients."""
    optimizer.set_lr(rate)
    with unique_name.guard():  # accumulators created here have the same names in every process
        precision.step(optimizer)
    optimizer.clear_grad()


def optimizer_state(optimizer: Optimizer, model: nn.Layer) -> dict[str, np.ndarray]:
    """Accumulators as `<parameter's name in the network>/<accumulator>`.

    paddle's own names depend on how many parameters the process has created before; these do not.
    """
    owners = {value.name: name for name, value in model.named_parameters()}
    state = {}
    for key, value in optimizer.state_dict().items():
        if isinstance(value, paddle.Tensor):
            owner = _owner(key, owners)
            state[f"{owners[owner]}/{key[len(owner) + 1 :]}"] = value.numpy()
    return state


def restore_optimizer(optimizer: Optimizer, model: nn.Layer, state: dict[str, np.ndarray]) -> None:
    """Set the accumulators of a new optimiser from the result of `optimizer_state`."""
    names = {name: value.name for name, value in model.named_parameters()}
    renamed = {}
    for key, value in state.items():
        name, _, accumulator = key.rpartition("/")
        renamed[f"{names[name]}_{accumulator}"] = paddle.to_tensor(value)
    optimizer.set_state_dict(renamed)


def _owner(key: str, owners: dict[str, str]) -> str:
    """The parameter of an accumulator: the longest parameter name that the accumulator's name starts with."""
    name = key
    while name not in owners:
        name, underscore, _ = name.rpartition("_")
        if not underscore:
            raise KeyError(f"{key} belongs to no parameter of the network")
    return name
