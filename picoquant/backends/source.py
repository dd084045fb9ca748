"""A model as exporters take it: the Paddle form that all others are made from, each part of it read once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from picoquant.int8.network import Int8Network
from picoquant.paddle_program.edit import batch_of_one
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.program import ProgramFacts, program_facts


@dataclass(frozen=True)
class Source:
    """A model to make files of; nothing of it is to be changed by who uses it.

    Attributes:
        folder: a float model, or an INT8 model.
    """

    folder: ModelFolder

    @cached_property
    def facts(self) -> ProgramFacts:
        """Inputs, outputs and operators of the Paddle program."""
        return program_facts(self.folder.model)

    @property
    def quantised(self) -> bool:
        """Whether it is an INT8 model."""
        return self.facts.quantised

    @cached_property
    def network(self) -> Int8Network:
        """The INT8 network for one image.

        Raises: `WeightsError` for a float model, or an INT8 model that cannot be read.
        """
        from picoquant.int8.files import open_network

        return open_network(self.folder).for_one_image(self.folder.config.input_size, str(self.folder.model))

    @cached_property
    def program(self) -> Any:
        """The Paddle program for one image, a `ProgramDesc`; of an INT8 model the one that quantises.

        Raises: `WeightsError` when it cannot take one image.
        """
        return batch_of_one(self.folder.model, self.folder.config.input_size)
