"""Which model a check is about, and the files it leaves."""

from __future__ import annotations

from pathlib import Path

from picoquant.backends.base import Machine
from picoquant.backends.paddle.smoke_test import require_tried
from picoquant.backends.verisilicon import toolchain
from picoquant.errors import UserError
from picoquant.npu.check import CheckResult
from picoquant.npu.emulation import Agreement, compare_with_emulator, generated_image
from picoquant.npu.picture import draw
from picoquant.npu.simulation.simulation import NpuSimulation
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.storage.files import disk_errors, write_json, write_text
from picoquant.targets.profiles import Target

FOLDER = "check"


def model_of(save_dir: str, model_dir: str | None) -> ModelFolder:
    """The model folder named, or the INT8 model of a run.

    Raises: `UserError` saying how to get one, `WeightsError` for one that Paddle crashes on.
    """
    if model_dir:
        folder = ModelFolder.open(Path(model_dir).expanduser())
        require_tried(folder)
        return folder
    folder = Path(save_dir).expanduser() / "quantize"
    if not folder.is_dir():
        raise UserError(
            f"no INT8 model in {folder}; run `picoquant quantize` with the same --save-dir first, or name one "
            "with --model"
        )
    return ModelFolder.open(folder)


def emulated(model: ModelFolder, target: Target) -> list[Agreement]:
    """Each operator of an INT8 model on VeriSilicon's emulator of a target, beside the simulation.

    Raises: `ToolError` when the emulator is not installed, has no such NPU, or cannot run the operators.
    """
    chip = toolchain.chip_of(target.name)
    tool = toolchain.find(Machine())
    simulation = NpuSimulation(model, target.integer_rules)
    return compare_with_emulator(simulation, generated_image(simulation), tool, chip)


def write_files(result: CheckResult, save_dir: str, picture: str | None = None) -> list[Path]:
    """Write picture, JSON and, where it helps, the partition file; returns their paths."""
    drawing = Path(picture) if picture else Path(save_dir) / FOLDER / f"{result.target}.svg"
    with disk_errors(drawing):
        drawing.parent.mkdir(parents=True, exist_ok=True)
        title = f"{result.target}: {result.npu_pieces} NPU piece{'s' * (result.npu_pieces != 1)}"
        write_text(drawing, draw(result.graph, title))
        written = [drawing, drawing.with_suffix(".json")]
        write_json(written[1], result.to_json())
        partition = drawing.with_suffix(".partition.txt")
        partition.unlink(missing_ok=True)
        if result.partition:
            write_text(partition, result.partition)
            written.append(partition)
    return written
