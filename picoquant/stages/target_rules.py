"""What the targets of a recipe ask of quantisation; what the recipe's own section says wins."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from picoquant.config.recipe import Recipe, load_recipe
from picoquant.errors import ConfigError
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.quantization.settings import NO_EVALUATION, QuantizationSettings
from picoquant.storage.run_folder import CONFIG
from picoquant.targets.profiles import Target, known_targets, load_target, load_targets

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


def rules_of_targets(recipe: Recipe) -> dict[str, Any]:
    """Keys of section `QuantAware` that every target of the recipe takes.

    Of several targets the strictest rule holds: one scale a weight, and the fewest bits.

    Raises: `ConfigError` for an unknown target.
    """
    rules = [target.quantization for target in load_targets(recipe.targets)]
    if not rules:
        return {}
    per_tensor = any(rule.weights == "per_tensor" for rule in rules)
    return {
        "weight_quantize_type": _WEIGHT_TYPES["per_tensor" if per_tensor else "per_channel"],
        "weight_bits": min(rule.weight_bits for rule in rules),
        "activation_bits": min(rule.activation_bits for rule in rules),
    }


def quant_aware_for_targets(recipe: Recipe) -> QuantAwareSettings:
    """Section `QuantAware`; keys it does not have are the targets'.

    Raises: `ConfigError` naming section and key, or the target.
    """
    given = recipe.section("QuantAware", QuantAwareSettings)
    section = recipe.document.get("QuantAware") or {}
    taken = {key: value for key, value in rules_of_targets(recipe).items() if key not in section}
    return replace(given, **taken)


def own_settings(recipe: Recipe) -> QuantizationSettings:
    """Section `Quantize`.

    Raises: `ConfigError` naming section and key; for `max_drop` without evaluation; for layers in float where a
        target takes INT8 only and the recipe does not insist.
    """
    own = recipe.section("Quantize", QuantizationSettings)
    if own.max_drop is not None and not recipe.common.Evaluation:
        raise ConfigError(NO_EVALUATION)
    asked = [f"Quantize.{key}" for key in ("keep_float", "max_drop") if getattr(own, key) not in ((), None)]
    only = [target.name for target in load_targets(recipe.targets) if not target.quantization.mixed_precision]
    if asked and only and not own.allow_float:
        raise ConfigError(
            f"{' and '.join(asked)}: {', '.join(only)} takes INT8 only, so a layer in float splits the network and "
            f"runs on the CPU: remove the key, or set Quantize.allow_float: true to accept that"
        )
    return own


def rules_are_symmetric(recipe: Recipe) -> bool:
    """Whether a target of the recipe takes symmetric activations only (without targets: yes, as INT8 NPUs do)."""
    rules = [target.quantization for target in load_targets(recipe.targets)]
    return any(rule.symmetric for rule in rules) or not rules


def say_origin(recipe: Recipe) -> None:
    """Log which settings came from the targets, and which the recipe sets otherwise."""
    section = recipe.document.get("QuantAware") or {}
    names = ", ".join(recipe.targets)
    for key, value in rules_of_targets(recipe).items():
        if key not in section:
            LOG.info("quantize: %s is %s, as %s takes it", key, value, names)
        elif section[key] != value:
            LOG.warning(
                "quantize: QuantAware.%s is %s, but %s takes %s: the recipe's value holds; leave the key out "
                "for the target's",
                key,
                section[key],
                names,
                value,
            )
