"""Copies of the channels for which 8 bits are too few.

A convolution computes such a channel `n` times, each time with a bias that lies `1 / n` of a level further, and what
multiplies the channel next takes the mean of the copies. Rounded, they are on `n` times as many levels together, and
what rounding costs falls to `1 / n^2`. The outputs change by float rounding and, where the activation bends, by the
square of a part of a level. A few channels are worth it: a stem of 8 channels has one that carries most of what the
network sees. (Zhao et al. 2019, https://arxiv.org/abs/1901.09504, split channels to make ranges smaller; here the
levels between are what is wanted.)
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from picoquant.paddle_program.editing.operator import EditableOperator
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.paddle_program.layers import CONVOLUTIONS
from picoquant.quantization.ptq.equalisation.cost import QUANT_MAX, rounding_costs
from picoquant.quantization.ptq.equalisation.path import (
    own_bias,
    rename_tensor,
    use_count,
)
from picoquant.quantization.ptq.equalisation.sites import GATE, HARD_SWISH, Site, sites_of
from picoquant.quantization.ptq.sensitivity import Sensitivity

OTHERS = ("relu6", "silu", "swish")  # activations that copies pass and factors do not
_PART = 0.03  # of all that rounding costs at least, that a channel may cost


@dataclass(frozen=True)
class Copied:
    """A convolution's result that has copies of channels.

    Attributes:
        name: of the result, as it was.
        copies: how many there are of each channel in place of one, by its number.
    """

    name: str
    copies: Mapping[int, int]


@dataclass(frozen=True)
class _Chain:
    """A site, the depthwise convolutions behind it, and the convolutions that multiply their channels.

    Attributes:
        sites: the first one, and the depthwise ones.
        ends: operators.
    """

    sites: tuple[Site, ...]
    ends: tuple[EditableOperator, ...]


def copy_channels(
    model: ProgramModel,
    groups: Sequence[Sequence[str]],
    ranges: Mapping[str, np.ndarray],
    sensitivity: Sensitivity,
    most: int,
    kept: Collection[str] = (),
) -> tuple[list[Copied], dict[str, np.ndarray], Sensitivity]:
    """Copy the channels of a folded network that cost more than a small part of all.

    Args:
        model: changed in place.
        groups, ranges, sensitivity: see `equalise.equalise`.
        most: copies of a channel.
        kept: names of tensors that stay as they are.

    Returns: what was copied, in the network's order; `ranges` and `sensitivity` of the network as it is now.
    """
    held = {name for group in groups for name in group}
    sites = sites_of(model, OTHERS)
    costs = {site: _costs(site, held, ranges, sensitivity) for site in sites}
    limit = _PART * sum(cost.sum() for cost in costs.values())
    ranges, done, used = dict(ranges), [], set()
    for site in sites:
        chain = None if site in used else _chain(model, site, sites)
        if chain is None or limit <= 0 or any(_named(one) & set(kept) for one in chain.sites):
            continue
        own = sum(costs[one] for one in chain.sites)
        copies = np.clip(np.ceil(np.sqrt(own / limit)), 1, most).astype(int)
        if copies.max() == 1:
            continue
        used.update(chain.sites)
        level = _reach(site, ranges)[site.name if site.name in held else site.result] / QUANT_MAX
        sensitivity = _apply(model, chain, copies, level, ranges, sensitivity)
        done.append(Copied(site.name, {int(c): int(copies[c]) for c in np.flatnonzero(copies > 1)}))
    return done, ranges, sensitivity


def _named(site: Site) -> set[str]:
    return {site.raw, site.name, site.result}


def _reach(site: Site, ranges: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """How far the scale of each channel reaches, `[C]`, by tensor: alone where it can be equalised."""
    found = {name: ranges[name] for name in (site.name, site.result)}
    if site.activation not in OTHERS:
        return found
    return {name: np.full_like(reach, reach.max()) for name, reach in found.items()}


def _costs(
    site: Site, held: set[str], ranges: Mapping[str, np.ndarray], sensitivity: Sensitivity
) -> np.ndarray:
    """What rounding each channel of a site costs at least, `[C]`."""
    found = np.zeros(len(ranges[site.result]))
    for name, reach in _reach(site, ranges).items():
        if name in held and name in sensitivity.tensors:
            found += rounding_costs(reach, sensitivity.tensors[name])
    if site.activation == HARD_SWISH and site.result in sensitivity.gates:
        found += rounding_costs(GATE, sensitivity.gates[site.result])
    return found


def _chain(model: ProgramModel, first: Site, sites: Sequence[Site]) -> _Chain | None:
    """The chain that begins with a site; None where anything else than a convolution uses its channels."""
    by_raw = {site.raw: site for site in sites}
    if model.producer(first.raw).attributes.get("groups", 1) != 1:
        return None
    found, ends = [first], []
    for site in found:  # grows
        if use_count(model, model.producer(site.raw).input("Filter")[0]) > 1:
            return None
        if site.result in model.outputs:
            return None
        for op in model.users(site.result):
            if op.type not in CONVOLUTIONS or op.input("Input")[0] != site.result:
                return None
            weight, groups = op.input("Filter")[0], op.attributes.get("groups", 1)
            if use_count(model, weight) > 1 or not model.is_stored(weight):
                return None
            raw, channels = op.output("Output")[0], model.shape(site.result)[1]
            if groups == 1 and channels > 1:
                ends.append(op)
            elif groups == channels == model.shape(weight)[0] and raw in by_raw:
                found.append(by_raw[raw])
            else:
                return None
    return _Chain(tuple(found), tuple(ends)) if ends else None


def _apply(
    model: ProgramModel,
    chain: _Chain,
    copies: np.ndarray,
    level: np.ndarray,
    ranges: dict[str, np.ndarray],
    sensitivity: Sensitivity,
) -> Sensitivity:
    """Copy channels in the program, in `ranges`, and in the sensitivity that is returned.

    Args:
        copies: of each channel, `[C]`.
        level: value of a level of each channel, `[C]`.
    """
    source = np.concatenate([np.arange(len(copies)), np.repeat(np.arange(len(copies)), copies - 1)])
    number = np.concatenate([np.zeros(len(copies), int), *(np.arange(1, count) for count in copies)])
    shared = copies[source]
    offset = ((number - (shared - 1) / 2) / shared * level[source]).astype(np.float32)
    tensors, gates = dict(sensitivity.tensors), dict(sensitivity.gates)
    weights = dict(sensitivity.weights)
    for site in chain.sites:
        first = site is chain.sites[0]
        op, bias = model.producer(site.raw), own_bias(model, site.name)
        weight = op.input("Filter")[0]
        model.write(weight, model.values[weight][source])
        model.write(bias, model.values[bias][source] + (offset if first else np.float32(0)))
        if weight in weights:
            weights[weight] = weights[weight][source] / (shared**2)[:, None]
        if not first:
            op.set_attribute("groups", len(source))
        for name in dict.fromkeys((site.raw, site.name, site.result)):
            shape = model.shape(name)
            model.set_shape(name, [shape[0], len(source), *shape[2:]])
        if site.raw in tensors:
            tensors[site.raw] = tensors[site.raw][source] / shared**2
        for name in dict.fromkeys((site.name, site.result)):
            other = rename_tensor(model, name)
            ranges[other] = ranges.pop(name)[source]
            for known in (tensors, gates):
                if name in known:
                    known[other] = known.pop(name)[source] / shared**2
    for op in chain.ends:
        weight = op.input("Filter")[0]
        model.write(weight, model.values[weight][:, source] / shared[:, None, None])
        if weight in weights:
            weights[weight] = weights[weight][:, source]
    return replace(sensitivity, tensors=tensors, gates=gates, weights=weights)
