"""The models of a run, and what the packages of all targets share: read and converted once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from picoquant.errors import UserError
from picoquant.int8.files import open_network
from picoquant.int8.network import Int8Network
from picoquant.packaging.rknn import float_onnx
from picoquant.paddle_program.edit import batch_of_one
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
    """Programs and ONNX models of `models`, each made at its first use and then kept.

    None of them is to be changed by who uses it.
    """

    def __init__(self, models: Models) -> None:
        self.models = models

    @cached_property
    def program(self) -> Any:
        """The `ProgramDesc` of the first model, for one image."""
        return self._one_image(self.models.first)

    @cached_property
    def fp32_program(self) -> Any:
        """The same of the float model."""
        return self._one_image(self.models.fp32)

    @cached_property
    def network(self) -> Int8Network | None:
        """The INT8 network for one image; None without an INT8 model."""
        model = self.models.int8
        if model is None:
            return None
        return open_network(model).for_one_image(model.config.input_size, str(model.model))

    @cached_property
    def int8_onnx(self) -> Any:
        """The INT8 model as `onnx.ModelProto`, see `qdq.make_onnx`."""
        from picoquant.backends.onnx.qdq import make_onnx

        return make_onnx(self.network)

    @cached_property
    def float_onnx(self) -> Any:
        """The float model as `onnx.ModelProto`, opset 12, see `rknn.float_onnx`."""
        return float_onnx(self.fp32_program, self.models.fp32)

    @staticmethod
    def _one_image(model: ModelFolder) -> Any:
        return batch_of_one(model.model, model.config.input_size)
