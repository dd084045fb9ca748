"""The form of a model that Paddle Lite's x86 runtime computes right."""

from __future__ import annotations

from pathlib import Path

from picoquant.backends.source import Source
from picoquant.paddle_program.edit import write_program
from picoquant.paddle_program.params import read_params, write_params


def write_float_form(source: Source, model: Path, params: Path) -> None:
    """The network for one image, with the weights of the INT8 model, in float.

    Its INT8 kernels are not right: its 1x1 and 3x3 convolutions of whole numbers are 16 to 22 dB from the
    exact result (2.13rc0), and depthwise ones crash.

    Args:
        source: a float or an INT8 model.
        model, params: files to write.
    """
    if source.quantised:
        program, values = source.network.program, source.network.values
    else:
        program = source.program
        values = read_params(program, source.folder.params)
    write_program(program, model)
    write_params(program, values, params)
