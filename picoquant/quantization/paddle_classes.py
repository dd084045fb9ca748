"""Classes of Paddle that section `TrainConfig` may name, known without importing Paddle.

Source: PaddlePaddle 2.6, `paddle.optimizer`, `paddle.optimizer.lr`, `paddle.regularizer` and `paddle.nn`.
"""

from __future__ import annotations

from picoquant.errors import ConfigError
from picoquant.utils.suggest import suggestion

CLASSES = {
    "paddle.optimizer": (
        "Adadelta", "Adagrad", "Adam", "AdamW", "Adamax", "LBFGS", "Lamb", "Momentum", "RMSProp", "SGD",
    ),
    "paddle.optimizer.lr": (
        "CosineAnnealingDecay", "CosineAnnealingWarmRestarts", "CyclicLR", "ExponentialDecay",
        "InverseTimeDecay", "LambdaDecay", "LinearLR", "LinearWarmup", "MultiStepDecay", "MultiplicativeDecay",
        "NaturalExpDecay", "NoamDecay", "OneCycleLR", "PiecewiseDecay", "PolynomialDecay", "ReduceOnPlateau",
        "StepDecay",
    ),
    "paddle.regularizer": ("L1Decay", "L2Decay"),
    "paddle.nn": ("ClipGradByGlobalNorm", "ClipGradByNorm", "ClipGradByValue"),
}  # fmt: skip


def require_class(where: str, module: str, name: str) -> None:
    """Refuse a class that a module of Paddle does not have.

    Args:
        where: the key, for the message.
        module: a key of `CLASSES`.
        name: of the class.

    Raises: `ConfigError` naming the key, with the nearest class.
    """
    if name not in CLASSES[module]:
        raise ConfigError(f"{where}: {module} has no {name}{suggestion(name, CLASSES[module])}")
