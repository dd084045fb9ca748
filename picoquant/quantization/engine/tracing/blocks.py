"""Operators put into and taken out of a block of a static graph.

Paddle's own `_insert_op` and `_remove_op` compare all of the block with what they know of it first: of a graph of some
thousand operators that took most of the time of tracing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

_ROLE, _CALLS = "op_role", "op_callstack"
_CHANNELS = 0  # axis of a filter
NHWC, NCHW, ONEDNN = 1, 2, 5  # of `DataLayout` in Paddle's `common/layout.h`


class Inserter:
    """Inserts operators with one result in front of an operator, one after the other.

    Args:
        block: the graph.
        before: the operator, whose role the new ones get.
        prefix: of the names of results.
    """

    def __init__(self, block: Any, before: Any, prefix: str) -> None:
        self.block, self.before, self._prefix = block, before, prefix
        self._count = 0

    def __call__(
        self,
        op_type: str,
        inputs: Mapping[str, str],
        sizes: Sequence[int],
        result: str = "",
        more: Mapping[str, str] | None = None,
        **attributes: Any,
    ) -> str:
        """Insert one; the name of its result is returned.

        Args:
            op_type: of the operator.
            inputs: the tensor of each slot.
            sizes: shape of the result, -1 where it varies.
            result: a tensor that is there; empty: a new one.
            more: results that nobody reads, by slot.
            attributes: of the operator.
        """
        name = result or self.tensor(sizes)
        outputs = {"Out": name, **(more or {})}
        index = self.block.ops.index(self.before)
        insert(self.block, index, op_type, inputs, outputs, attributes, self.before)
        return name

    def tensor(self, shape: Sequence[int]) -> str:
        """A new tensor; its name is returned."""
        name = f"{self._prefix}@new{self._count}"
        self._count += 1
        self.block.create_var(name=name, shape=list(shape), dtype="float32")
        return name

    def product(self, first: str, second: str, result: str = "") -> str:
        """Of a tensor and one that is laid along its first axes."""
        return self(
            "elementwise_mul", {"X": first, "Y": second}, self.block.var(first).shape, result, axis=_CHANNELS
        )

    def reshape(self, name: str, shape: Sequence[int], result: str = "") -> str:
        """A tensor in another shape, 0 where that is the tensor's, -1 once for what is left.

        Args:
            name: of the tensor.
            shape: the other shape.
            result: the tensor's own name: the tensor itself is changed, and nothing is copied; empty: a new one.
        """
        known = self.block.var(name).shape
        sizes = [known[axis] if size == 0 else size for axis, size in enumerate(shape)]
        more = {"XShape": self.tensor([0, *known])}
        return self("reshape2", {"X": name}, sizes, result, more, shape=list(shape))

    def to_onednn(self, name: str) -> str:
        """A plain tensor in oneDNN's hands, without a copy.

        What Paddle hands over itself the first run of a graph holds to its end, and it does so only once.
        """
        layouts = {"src_layout": NCHW, "dst_layout": ONEDNN}
        return self("transfer_layout", {"X": name}, self.block.var(name).shape, **layouts)

    def from_onednn(self, name: str, result: str) -> str:
        """A tensor of oneDNN's in the plain layout."""
        layouts = {"src_layout": ONEDNN, "dst_layout": NCHW}
        return self("transfer_layout", {"X": name}, self.block.var(name).shape, result, **layouts)


def insert(
    block: Any,
    index: int,
    op_type: str,
    inputs: Mapping[str, Any],
    outputs: Mapping[str, Any],
    attributes: Mapping[str, Any],
    like: Any,
) -> None:
    """Insert an operator.

    Args:
        block: the graph.
        index: of the new operator.
        op_type, inputs, outputs, attributes: of it.
        like: an operator, whose role the new one gets.
    """
    block._insert_op_without_sync(
        index, type=op_type, inputs=dict(inputs), outputs=dict(outputs),
        attrs={**attributes, _ROLE: like.attr(_ROLE)},
    )  # fmt: skip


def remove(block: Any, op: Any) -> None:
    """Take an operator out."""
    block._remove_op(block.ops.index(op), sync=False)


def readers_of(ops: Iterable[Any]) -> dict[str, list[Any]]:
    """The operators that read each tensor."""
    found: dict[str, list[Any]] = {}
    for op in ops:
        for name in dict.fromkeys(op.input_arg_names):
            found.setdefault(name, []).append(op)
    return found


def forget_calls(ops: Iterable[Any]) -> None:
    """Drop where operators were made, which each of them and of their copies holds as some kilobytes of text."""
    for op in ops:
        if op.has_attr(_CALLS):
            op._remove_attr(_CALLS)
