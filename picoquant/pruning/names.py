"""Names of a network's weights: picoquant's own, and the numbered ones that PaddleDetection's files use.

Paddle numbers convolutions as they are made (`conv2d_27.w_0`). picoquant makes them in PaddleDetection's order, but for
two convolutions of `GFLHead` that PaddleDetection makes behind `PicoFeat`'s and never uses.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from paddle import Tensor, nn

from picoquant.errors import ConfigError
from picoquant.utils.suggest import suggestion

_UNUSED = 2  # convolutions of PaddleDetection's GFLHead
_NUMBERED = re.compile(r"(conv2d_\d+)(?:\.w_0)?")


def weights_of(model: nn.Layer) -> dict[str, Tensor]:
    """Weights of convolutions and fully connected layers by name in `state_dict()`, each once, as they run.

    Not among them: batch norms, biases, and other vectors.
    """
    norms = {
        id(value)
        for layer in model.sublayers()
        if isinstance(layer, (nn.BatchNorm2D, nn.SyncBatchNorm))
        for value in layer.parameters(include_sublayers=False)
    }
    parameters = {id(value) for value in model.parameters()}
    found: dict[int, tuple[str, Tensor]] = {}
    for name, value in model.state_dict().items():
        if id(value) in parameters and id(value) not in norms and len(value.shape) > 1:
            found.setdefault(id(value), (name, value))
    return dict(found.values())


def numbered(model: nn.Layer) -> dict[str, str]:
    """PaddleDetection's name without `.w_0` (`conv2d_27`) -> name of the weight, of every convolution."""
    convolutions = [
        (int(value.name.split(".")[0].rsplit("_", 1)[1]), name)
        for name, value in weights_of(model).items()
        if value.name.startswith("conv2d_")
    ]
    found = {}
    for index, (_, name) in enumerate(sorted(convolutions)):
        behind = name.startswith("head.") and not name.startswith("head.conv_feat.")
        found[f"conv2d_{index + _UNUSED * behind}"] = name
    return found


def chosen_weights(
    key: str, wanted: str, weights: Mapping[str, Tensor], by_number: Mapping[str, str]
) -> list[str]:
    """The weights that one name means.

    Args:
        key: of the settings, for messages.
        wanted: a weight's name, that of its layer, a pattern with `*`, or PaddleDetection's name.
        weights: see `weights_of`.
        by_number: see `numbered`.

    Raises: `ConfigError` for a name of no weight, with the nearest one.
    """
    match = _NUMBERED.fullmatch(wanted)
    if match and match[1] in by_number:
        return [by_number[match[1]]]
    found = [name for name in weights if wanted in (name, name.rpartition(".")[0])]
    if "*" in wanted:
        found = [name for name in weights if _matches(name, wanted)]
    if found:
        return found
    if match:
        last = list(by_number)[-1] if by_number else "none"
        raise ConfigError(f"{key}: the network has no {wanted}; its last convolution is {last}")
    raise ConfigError(f"{key}: the network has no weights {wanted!r}{_nearest(wanted, weights)}")


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name.rpartition(".")[0], pattern)


def _nearest(wanted: str, known: Iterable[str]) -> str:
    return suggestion(wanted, list(known)) or "; Pruner.print_params=true prints all names"
