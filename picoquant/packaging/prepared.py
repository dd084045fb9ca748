"""The models of a run, and what the packages of all targets share: read and converted once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from picoquant.backends.source import Source
from picoquant.errors import UserError
from picoquant.packaging.rknn import float_onnx
from picoquant.paddle_program.model_folder import ModelFolder


@dataclass(frozen=True)
class Models:
    """One network's exported forms; at least one is there.

    Attributes:
        int8: an INT8 Paddle model in Paddle Lite's form.
        fp32: the float model it was made from.
    """

    int8: ModelFolder | None = None
    fp32: ModelFolder | None = None

    @property
    def first(self) -> ModelFolder:
        """The one that a package is about: INT8 where there is one."""
        folder = self.int8 or self.fp32
        if folder is None:
            raise UserError("no model to package: quantise or export one first")
        return folder


class Prepared:
    """Programs, networks and ONNX models of `models`, each made at its first use and then kept.

    None of them is to be changed by who uses it.

    Attributes:
        int8, fp32: the models as exporters take them; None for one that is not there.
    """

    def __init__(self, models: Models) -> None:
        self.models = models
        self.int8 = None if models.int8 is None else Source(models.int8)
        self.fp32 = None if models.fp32 is None else Source(models.fp32)
        self._plain: dict[str, Any] = {}

    @property
    def first(self) -> Source:
        """The one that a package is about, see `Models.first`."""
        return self.int8 or self.fp32

    @cached_property
    def int8_onnx(self) -> Any:
        """The INT8 model as `onnx.ModelProto`, see `qdq.make_onnx`."""
        from picoquant.backends.onnx.qdq import make_onnx

        return make_onnx(self.int8.network)

    def plain_onnx(self, numbers: str) -> Any:
        """The INT8 model as plain `onnx.ModelProto`, see `plain.make_plain_onnx`."""
        from picoquant.backends.onnx.plain import make_plain_onnx

        if numbers not in self._plain:
            self._plain[numbers] = make_plain_onnx(self.int8.network, numbers)
        return self._plain[numbers]

    @cached_property
    def float_onnx(self) -> Any:
        """The float model as `onnx.ModelProto`, opset 12, see `rknn.float_onnx`."""
        return float_onnx(self.fp32.program, self.models.fp32)
