"""The optimiser and the learning rate's schedule that section `TrainConfig` names."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Union

import paddle

from picoquant.errors import ConfigError, reason_of
from picoquant.quantization.settings import QatTrainSettings
from picoquant.utils.setting_checks import thawed
from picoquant.utils.suggest import unknown_key

Schedule = Union[float, paddle.optimizer.lr.LRScheduler]


def make_schedule(train: QatTrainSettings) -> Schedule:
    """The learning rate: a number, or a scheduler at its first step.

    Raises: `ConfigError` for arguments that the scheduler does not take.
    """
    rate = thawed(train.learning_rate)
    if isinstance(rate, float):
        return rate
    return _made("learning_rate", paddle.optimizer.lr, rate)


def make_optimizer(train: QatTrainSettings, parameters: Sequence[Any]) -> Any:
    """The optimiser of some parameters; its learning rate must be set before each step.

    Raises: `ConfigError` for arguments that it does not take.
    """
    builder = thawed(train.optimizer_builder)
    decay = builder.get("weight_decay")
    if "regularizer" in builder:
        decay = _made("optimizer_builder.regularizer", paddle.regularizer, builder["regularizer"])
    clip = None
    if "grad_clip" in builder:
        clip = _made("optimizer_builder.grad_clip", paddle.nn, builder["grad_clip"])
    what = builder.get("optimizer", {"type": "SGD"})
    more = {"learning_rate": 0.0, "parameters": list(parameters), "weight_decay": decay, "grad_clip": clip}
    return _made("optimizer_builder.optimizer", paddle.optimizer, what, more)


def _made(
    where: str, module: Any, what: dict[str, Any], more: Mapping[str, Any] = MappingProxyType({})
) -> Any:
    """An object of the class `what["type"]` of a module, with the other entries, and `more`, as its arguments."""
    given = {key: value for key, value in what.items() if key != "type"}
    arguments = {**copy.deepcopy(given), **more}
    kind = getattr(module, what["type"])
    known = inspect.signature(kind).parameters
    arguments = {name: value for name, value in arguments.items() if name in known or value is not None}
    for name in arguments:
        if name not in known:
            raise unknown_key(f"TrainConfig.{where}", name, set(known) - {"parameters", "name"})
    for name, parameter in known.items():
        if parameter.default is parameter.empty and name not in arguments:
            raise ConfigError(f"TrainConfig.{where}: {name} is missing; {what['type']} needs it")
    try:
        return kind(**arguments)
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigError(
            f"TrainConfig.{where}: {what['type']} of {module.__name__} does not take {given}{reason_of(error)}"
        ) from error
