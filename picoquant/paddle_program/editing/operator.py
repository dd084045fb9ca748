"""An operator of a program that is being changed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from picoquant.paddle_program.graph import BOOKKEEPING, read_attributes
from picoquant.paddle_program.message import add_attribute


class EditableOperator:
    """An operator, read and changed in its message.

    Args:
        message: an `OpDesc` that no program holds.
    """

    def __init__(self, message: Any) -> None:
        self.message = message
        self._inputs: tuple[str, ...] | None = None
        self._outputs: tuple[str, ...] | None = None
        self._attributes: Mapping[str, Any] | None = None

    @property
    def type(self) -> str:
        """Its type, for example `conv2d`."""
        return self.message.type

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of all tensors that it reads, slot by slot."""
        if self._inputs is None:
            self._inputs = _names(self.message.inputs)
        return self._inputs

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of all tensors that it computes, slot by slot, bookkeeping among them."""
        if self._outputs is None:
            self._outputs = _names(self.message.outputs)
        return self._outputs

    @property
    def results(self) -> tuple[str, ...]:
        """Names of the tensors that it computes, without those in `BOOKKEEPING` slots."""
        slots = (slot for slot in self.message.outputs if slot.parameter not in BOOKKEEPING)
        return tuple(name for slot in slots for name in slot.arguments)

    @property
    def attributes(self) -> Mapping[str, Any]:
        """Its attributes by name, those that the program leaves out not among them."""
        if self._attributes is None:
            self._attributes = read_attributes(self.message)
        return self._attributes

    def input(self, slot: str) -> tuple[str, ...]:
        """Names of the tensors that it reads at a slot (`X`); none where it has none."""
        return _at(self.message.inputs, slot)

    def output(self, slot: str) -> tuple[str, ...]:
        """Names of the tensors that it computes at a slot."""
        return _at(self.message.outputs, slot)

    def rename_input(self, name: str, other: str) -> None:
        """Read another tensor wherever it reads `name`."""
        _rename(self.message.inputs, name, other)
        self._inputs = None

    def rename_output(self, name: str, other: str) -> None:
        """Compute `name` under another name."""
        _rename(self.message.outputs, name, other)
        self._outputs = None

    def set_attribute(self, name: str, value: Any) -> None:
        """Set an attribute: bool, int, float, str, or a list of int or str."""
        add_attribute(self.message, name, value)
        self._attributes = None


def _names(slots: Any) -> tuple[str, ...]:
    return tuple(name for slot in slots for name in slot.arguments)


def _at(slots: Any, slot: str) -> tuple[str, ...]:
    return tuple(name for one in slots if one.parameter == slot for name in one.arguments)


def _rename(slots: Any, name: str, other: str) -> None:
    for slot in slots:
        for position, one in enumerate(slot.arguments):
            if one == name:
                slot.arguments[position] = other
