"""The ONNX form of a Paddle model: what ONNX Runtime is given when there is no ONNX file."""

from __future__ import annotations

from pathlib import Path

from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.program import program_facts


def write_onnx_form(folder: ModelFolder, path: Path) -> None:
    """Write a float model as paddle2onnx converts it, an INT8 model as a package holds it.

    Raises: `ToolError` when paddle2onnx refuses the network.
    """
    from picoquant.backends.onnx.paddle2onnx import paddle_to_onnx
    from picoquant.backends.onnx.qdq import make_onnx, write_onnx
    from picoquant.int8.files import open_network
    from picoquant.paddle_program.edit import batch_of_one, write_program

    facts = program_facts(folder.model)
    inside = len(facts.outputs[0][1]) == 2  # NMS: paddle2onnx's form of it is for one image
    if not facts.quantised and not inside:
        write_onnx(paddle_to_onnx(folder.model, folder.params), path)
        return
    if facts.quantised:
        network = open_network(folder).for_one_image(folder.config.input_size, str(folder.model))
        write_onnx(make_onnx(network), path)
        return
    program = batch_of_one(folder.model, folder.config.input_size)
    single = path.with_suffix(".pdmodel")
    write_program(program, single)
    write_onnx(paddle_to_onnx(single, folder.params), path)
    single.unlink()
