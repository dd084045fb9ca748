"""What the targets of a recipe ask of quantisation; what the recipe's own section says wins."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from picoquant.config.recipe import load_recipe
from picoquant.errors import ConfigError
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.quantization.settings import NO_EVALUATION, QuantizationSettings
from picoquant.storage.run_folder import CONFIG
from picoquant.targets.profile_files import known_targets
from picoquant.targets.profiles import Target, load_target

LOG = logging.getLogger("picoquant")

_WEIGHT_TYPES = {"per_channel": "channel_wise_abs_max", "per_tensor": "abs_max"}


def target_of_run(name: str, save_dir: str) -> Target:
    """The profile of a name: a shipped one, a YAML file, or one's own that the run in a folder was made for.

    Raises: as `load_target`.
    """
    config = Path(save_dir).expanduser() / CONFIG
    if name not in known_targets() and Path(name).suffix == "" and config.is_file():
        name = load_recipe(str(config)).target_file(name)
    return load_target(name)


def rules_of_targets(targets: Sequence[Target], learnt: bool = False) -> dict[str, Any]:
    """Keys of section `QuantAware` that every one of these targets takes.

    Of several targets the strictest rule holds: one scale a weight, the fewest bits, no zero points.

    Args:
        targets: of the recipe.
        learnt: whether training learns the activations' ranges, which are symmetric then.
    """
    rules = [target.quantization for target in targets]
    if not rules:
        return {}
    per_tensor = any(rule.weights == "per_tensor" for rule in rules)
    return {
        "weight_quantize_type": _WEIGHT_TYPES["per_tensor" if per_tensor else "per_channel"],
        "weight_bits": min(rule.weight_bits for rule in rules),
        "activation_bits": min(rule.activation_bits for rule in rules),
        "symmetric_activations": learnt or any(rule.symmetric for rule in rules),
    }


def quant_aware_for_targets(
    given: QuantAwareSettings, section: Mapping[str, Any], targets: Sequence[Target], learnt: bool = False
) -> QuantAwareSettings:
    """Section `QuantAware` with the targets' values for the keys that it does not have.

    Args:
        given: the section as settings.
        section: the section as it is written.
        targets, learnt: see `rules_of_targets`.
    """
    rules = rules_of_targets(targets, learnt)
    return replace(given, **{key: value for key, value in rules.items() if key not in section})


def require_int8_where_needed(own: QuantizationSettings, targets: Sequence[Target], evaluated: bool) -> None:
    """Refuse layers in float for a target that takes INT8 only, unless the recipe insists.

    Args:
        own: section `Quantize`.
        targets: of the recipe.
        evaluated: whether the recipe evaluates.

    Raises: `ConfigError` naming section and key; also for `max_drop` without evaluation.
    """
    if own.max_drop is not None and not evaluated:
        raise ConfigError(NO_EVALUATION)
    asked = [f"Quantize.{key}" for key in ("keep_float", "max_drop") if getattr(own, key) not in ((), None)]
    only = [target.name for target in targets if not target.quantization.mixed_precision]
    if asked and only and not own.allow_float:
        raise ConfigError(
            f"{' and '.join(asked)}: {', '.join(only)} takes INT8 only, so a layer in float splits the network and "
            f"runs on the CPU: remove the key, or set Quantize.allow_float: true to accept that"
        )


def say_origin(
    section: Mapping[str, Any], targets: Sequence[Target], names: Sequence[str], learnt: bool = False
) -> None:
    """Log which settings came from the targets, and which the recipe sets otherwise.

    Args:
        section: section `QuantAware` as it is written.
        targets: of the recipe.
        names: of the targets, as the recipe has them.
        learnt: see `rules_of_targets`.
    """
    named = ", ".join(names)
    for key, value in rules_of_targets(targets, learnt).items():
        if key not in section:
            LOG.info("quantize: %s is %s, as %s takes it", key, value, named)
        elif section[key] != value:
            LOG.warning(
                "quantize: QuantAware.%s is %s, but %s takes %s: the recipe's value holds; leave the key out "
                "for the target's",
                key,
                section[key],
                named,
                value,
            )
