"""One range for the tensors that an NPU only moves values between (concat, reshape …)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence


def one_range_a_group(
    ranges: Mapping[str, float], groups: Sequence[Sequence[str]], first: Collection[str] = ()
) -> dict[str, float]:
    """Ranges of which those of a group are equal: the largest, so that nothing more is clipped.

    Args:
        ranges: largest absolute values; a tensor of a group may be missing.
        groups: see `tensors.target_tensors`.
        first: tensors whose range was learnt; where a group has such, only theirs count.

    Returns: the ranges; tensors of a group that have none stay without unless the group has one.
    """
    equal = dict(ranges)
    for group in groups:
        if len(group) == 1:
            continue
        known = [name for name in group if name in ranges]
        learnt = [name for name in known if name in first]
        if known:
            equal.update(dict.fromkeys(group, max(ranges[name] for name in learnt or known)))
    return equal
