"""What is known of a PIR program while it is read, operation by operation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Union

from picoquant.paddle_program.message import DTYPES, TypedList
from picoquant.paddle_program.pir.document import Operation, PirError, Type, Value

_MOST_NUMBERS = 1 << 20  # in one constant; anchor points of an image of 4096 x 4096 are fewer
_FIELDS = {"bool": "bool_values", "int32": "int32_values", "int64": "int64_values", "float32": "fp32_values"}
_LISTS = {"bool": "ints", "int32": "ints", "int64": "longs", "float32": "floats"}


_STEMS = {"hard_swish": "hardswish", "hard_sigmoid": "hardsigmoid", "transpose2": "transpose"}
_SUFFIXES = {"batch_norm": "tmp_2"}  # behind the two that only training reads


@dataclass(frozen=True)
class Number:
    """A value that is known without running anything: of `full`, or of `full_int_array`."""

    values: tuple[Any, ...]
    type: Type


@dataclass(frozen=True)
class Emitted:
    """An operator of the new program, as `message.add_operator` takes it."""

    type: str
    inputs: Mapping[str, tuple[str, ...]]
    outputs: Mapping[str, tuple[str, ...]]
    attributes: Mapping[str, Any]


Entry = Union[str, Number, tuple[int, ...]]  # a variable's name, a number, values in a list


@dataclass
class Translation:
    """The new program as far as it is written.

    Attributes:
        entries: what each value is, by its number.
        types: of the variables, by name.
        operators: in execution order.
        inputs: of the network, in order.
        outputs: of the network, by their column.
        versions: of the operators that have one, by type.
    """

    entries: dict[int, Entry] = field(default_factory=dict)
    types: dict[str, Type] = field(default_factory=dict)
    operators: list[Emitted] = field(default_factory=list)
    inputs: list[str] = field(default_factory=list)
    outputs: dict[int, str] = field(default_factory=dict)
    versions: dict[str, int] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)
    _written: dict[int, str] = field(default_factory=dict)

    def entry(self, op: Operation, place: int) -> Entry | None:
        """An operand; None for one that is left out.

        Raises: `PirError` if nothing before has made it.
        """
        number = op.inputs[place] if place < len(op.inputs) else 0
        if number and number not in self.entries:
            raise PirError(f"{op.where}, takes value {number}, which nothing before it makes")
        return self.entries[number] if number else None

    def tensor(self, op: Operation, place: int) -> str:
        """Name of an operand that is one tensor; a number is written as an operator first.

        Raises: `PirError` if it is left out, or is a list.
        """
        found = self.entry(op, place)
        if found is None or isinstance(found, tuple):
            raise PirError(f"{op.where}, takes {'nothing' if found is None else 'a list'} as operand {place}")
        return self._name(op.inputs[place], found)

    def tensors(self, op: Operation, place: int) -> tuple[str, ...]:
        """Names of an operand's tensors, one or a list of them.

        Raises: `PirError` if it is left out, is empty, or holds lists.
        """
        found = self.entry(op, place)
        if not isinstance(found, tuple):
            return (self.tensor(op, place),)
        names = []
        for number in found:
            item = self.entries[number]
            if isinstance(item, tuple):
                raise PirError(f"{op.where}, takes a list of lists")
            names.append(self._name(number, item))
        if not names:
            raise PirError(f"{op.where}, takes an empty list")
        return tuple(names)

    def _name(self, number: int, item: str | Number) -> str:
        if isinstance(item, str):
            return item
        if number not in self._written:
            self._written[number] = self.constant(item)
        return self._written[number]

    def constant(self, value: Number) -> str:
        """Name of a new variable that holds a number.

        Raises: `PirError` for a type without an attribute for it.
        """
        shape, dtype = value.type.shape, value.type.dtype
        name = self.new("constant", value.type)
        if value.values and len(set(value.values)) == 1:
            one = value.values[0]
            attributes = {
                "dtype": DTYPES[dtype],
                "force_cpu": False,
                "place_type": -1,
                "shape": TypedList("longs", shape),
                "str_value": repr(float(one)) if dtype.startswith("float") else str(int(one)),
                "value": float(one),
            }
            self.emit("fill_constant", {}, {"Out": (name,)}, attributes, 2)
            return name
        if dtype not in _FIELDS or not value.values or len(value.values) > _MOST_NUMBERS:
            raise PirError(f"a constant of {len(value.values)} numbers in {dtype} is not read")
        kind = int if dtype.startswith("int") else bool if dtype == "bool" else float
        items = tuple(kind(one) for one in value.values)
        attributes = {
            **{attribute: TypedList(_LISTS[name], ()) for name, attribute in _FIELDS.items()},
            _FIELDS[dtype]: TypedList(_LISTS[dtype], items),
            "dtype": DTYPES[dtype],
            "shape": TypedList("ints", shape),
        }
        self.emit("assign_value", {}, {"Out": (name,)}, attributes)
        return name

    def new(self, stem: str, kind: Type) -> str:
        """A new variable's name: as Paddle 2.6 calls it, but for sums of biases.

        Raises: `PirError` for a type of numbers that is not read.
        """
        if kind.dtype not in DTYPES:
            raise PirError(f"it computes in {kind.dtype}: export it in float32")
        stem = _STEMS.get(stem, stem)
        while True:
            count = self._counts[stem] = self._counts.get(stem, -1) + 1
            if (name := f"{stem}_{count}.{_SUFFIXES.get(stem, 'tmp_0')}") not in self.types:
                self.types[name] = kind
                return name

    def result(self, op: Operation, place: int, stem: str) -> str:
        """Name of a new variable for a result that is one tensor."""
        kind = op.results[place].type if place < len(op.results) else None
        if not isinstance(kind, Type):
            raise PirError(f"{op.where}, has no tensor as result {place}")
        name = self.new(stem, kind)
        self.define(op, op.results[place], name)
        return name

    def define(self, op: Operation, value: Value, entry: Entry) -> None:
        """Say what a value is.

        Raises: `PirError` if it is known already.
        """
        if value.number in self.entries or not value.number:
            raise PirError(f"{op.where}, makes value {value.number}, which is made already")
        self.entries[value.number] = entry

    def type_of(self, op: Operation, place: int) -> Type:
        """Type of an operand that is one tensor."""
        found = self.entry(op, place)
        return found.type if isinstance(found, Number) else self.types[self.tensor(op, place)]

    def emit(
        self,
        kind: str,
        inputs: Mapping[str, tuple[str, ...]],
        outputs: Mapping[str, tuple[str, ...]],
        attributes: Mapping[str, Any],
        version: int = 0,
    ) -> None:
        """Write an operator.

        Args:
            kind: its type.
            inputs, outputs: variables by slot.
            attributes: values by name.
            version: of the operator, as a program of Paddle 2.6 says it; 0 where it says none.
        """
        self.operators.append(Emitted(kind, inputs, outputs, attributes))
        if version:
            self.versions[kind] = version
