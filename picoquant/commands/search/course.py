"""Which settings are tried, in which order: given the same results it is always the same course."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from typing import Any

from picoquant.stages.plan import Plan

Values = Mapping[str, Any]  # a value for each key that is searched

METHOD, RATE, COPIES = "Quantize.method", "Quantize.level_rate", "Quantize.channel_copies"
RANGES, ROUNDING, BIASES = "Quantize.ranges", "Quantize.rounding", "Quantize.bias_correction"
WEIGHTS = "QuantAware.weight_quantize_type"
_FACTORS = (0.5, 2.0)  # of the recipe's level_rate


@dataclass(frozen=True)
class Space:
    """What is searched.

    Attributes:
        own: the recipe's values.
        ptq: values to try of each key without training, the cheap ones first.
        qat: the same with training, which takes far longer.
    """

    own: Values
    ptq: Mapping[str, tuple[Any, ...]]
    qat: Mapping[str, tuple[Any, ...]]


def space_of(plan: Plan) -> Space:
    """The keys that make a difference under a recipe's other settings, and their values.

    One scale for a whole weight is tried where the recipe leaves that to its targets and each of them takes a scale for
    every channel, too.
    """
    settings, own = plan.quantization.quant_aware, plan.quantization.own
    values = {
        METHOD: own.method,
        RANGES: own.ranges,
        BIASES: own.bias_correction,
        COPIES: own.channel_copies,
        ROUNDING: own.rounding,
        WEIGHTS: settings.weight_quantize_type,
        RATE: own.level_rate,
    }
    ptq: dict[str, tuple[Any, ...]] = {
        RANGES: ("detections", "mse", "percentile", "kl", "histogram", "min_max"),
        BIASES: (True, False),
    }
    if own.cross_layer_equalisation and own.fold_batch_norm:
        ptq[COPIES] = tuple(dict.fromkeys((own.channel_copies, 4, 8, 1)))
    ptq[ROUNDING] = ("nearest", "reconstructed")
    left_open = WEIGHTS.split(".")[1] not in plan.quant_aware_section
    if left_open and all(target.quantization.weights == "per_channel" for target in plan.targets):
        ptq[WEIGHTS] = ("channel_wise_abs_max", "abs_max")
    rates = tuple(own.level_rate * factor for factor in _FACTORS) if own.training == "levels" else ()
    return Space(values, ptq, {RATE: (own.level_rate, *rates)} if rates else {})


def course(space: Space) -> Generator[Values, float | None, None]:
    """The trials one after the other; each is answered with what it is worth, None: it has no result.

    The recipe's own settings without training come first, then one key at a time is changed from the best so far, round
    after round until a round gains nothing. Training is tried with the recipe's own settings where they say `qat`, with
    the best ones, then with other rates. No settings come twice.
    """
    known: dict[tuple[tuple[str, Any], ...], float | None] = {}

    def worth(values: Values) -> Generator[Values, float | None, float | None]:
        key = tuple(sorted(values.items()))
        if key not in known:
            known[key] = yield values
        return known[key]

    def descend(
        best: Values, choices: Mapping[str, tuple[Any, ...]]
    ) -> Generator[Values, float | None, Values]:
        reached, gained = (yield from worth(best)), True
        while gained:
            gained = False
            for key, values in choices.items():
                for value in values:
                    other = {**best, key: value}
                    found = yield from worth(other)
                    if _better(found, reached):
                        best, reached, gained = other, found, True
        return best

    best = yield from descend({**space.own, METHOD: "ptq"}, space.ptq)
    start = trained = {**best, METHOD: "qat"}
    if space.own[METHOD] == "qat":
        own = yield from worth(space.own)
        start = trained if _better((yield from worth(trained)), own) else space.own
    yield from descend(start, space.qat)


def _better(found: float | None, reached: float | None) -> bool:
    return found is not None and (reached is None or found > reached)
