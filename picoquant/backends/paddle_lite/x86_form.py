"""The form of a model that Paddle Lite's x86 runtime computes right."""

from __future__ import annotations

from pathlib import Path

from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.program import program_facts


def write_float_form(folder: ModelFolder, model: Path, params: Path) -> None:
    """The network for one image, with the weights of the INT8 model, in float.

    Its INT8 kernels are not right: its 1x1 and 3x3 convolutions of whole numbers are 16 to 22 dB from the
    exact result (2.13rc0), and depthwise ones crash.

    Args:
        folder: a float or an INT8 model.
        model, params: files to write.
    """
    from picoquant.int8.files import open_network
    from picoquant.paddle_program.edit import batch_of_one, write_program
    from picoquant.paddle_program.params import read_params, write_params

    if program_facts(folder.model).quantised:
        network = open_network(folder).for_one_image(folder.config.input_size, str(folder.model))
        program, values = network.program, network.values
    else:
        program = batch_of_one(folder.model, folder.config.input_size)
        values = read_params(program, folder.params)
    write_program(program, model)
    write_params(program, values, params)
