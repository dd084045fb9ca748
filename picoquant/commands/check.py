"""Which model a check is about, the tool that checks it, and the files it leaves."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from picoquant.backends.base import Machine
from picoquant.backends.ethos_u import toolchain as vela
from picoquant.backends.paddle.smoke_test import require_tried
from picoquant.backends.paddle_lite.toolchain import find_opt
from picoquant.backends.rknn import toolchain as rknn
from picoquant.backends.source import Source
from picoquant.backends.verisilicon import toolchain as verisilicon
from picoquant.backends.verisilicon.toolchain import Emulator
from picoquant.errors import ToolError, UserError
from picoquant.npu.check import CheckResult, check_model
from picoquant.npu.emulated.agreement import (
    Agreement,
    agreement_table,
    compare_with_emulator,
    generated_image,
)
from picoquant.npu.emulated.cycles import Cycles, measure_cycles
from picoquant.npu.emulated.published_time import time_of
from picoquant.npu.picture import draw
from picoquant.npu.report import NO_TIME, text_report
from picoquant.npu.rknn_check import RknnCheck, check_with_rknn
from picoquant.npu.simulation.simulation import NpuSimulation
from picoquant.npu.vela_check import VelaCheck, check_with_vela
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.storage.files import disk_errors, sha256, write_json, write_text
from picoquant.targets.profiles import Target

FOLDER = "check"
_AGREEMENT = "on VeriSilicon's emulator, each operator with the simulation's inputs:"
_NO_OPT = (
    "not asked: the network has zero points, which Paddle Lite's files cannot hold; the compiled network can"
)


@dataclass(frozen=True)
class Checked:
    """What a check found.

    Attributes:
        text: for a terminal.
        values: as JSON.
        broken: whether a rule of the target is broken.
        written: the files.
    """

    text: str
    values: dict[str, Any]
    broken: bool
    written: list[Path]


def check_target(
    model: ModelFolder,
    target: Target,
    save_dir: str,
    picture: str | None = None,
    opt: str | None = None,
    emulator: bool = False,
) -> Checked:
    """Check a model with the tool of its target: Vela for an Ethos-U, rknn-toolkit2 for an RKNPU, or opt.

    Args:
        model: an INT8 model.
        target: what it is checked for.
        save_dir: where files are written, in the folder `check`.
        picture: path of the picture; None: among those files.
        opt: path of Paddle Lite's opt; None: it is looked for.
        emulator: run it on VeriSilicon's emulator of the target, too: each operator beside the simulation. Cycles,
            which need no image, are in place of the estimated latency wherever that emulator is installed.

    Raises: `UserError` for a picture where the tool says nothing to draw, `ToolError` saying what to do when the tool
        is absent or refuses the model.
    """
    emulated = on_emulator(model, target) if emulator else None
    if emulated is not None and Source(model).network.zero_points:
        return _compiled_alone(target, *emulated, save_dir, picture)
    by_rknn = "rknn" in target.backends
    if target.ethos_u is None and not by_rknn:
        result = check_model(model, target, find_opt(opt))
        rows, cycles = emulated or (None, None)
        estimated = ""
        tool = _emulator_of(target) if cycles is None else None
        if tool is not None:
            try:
                cycles = cycles_of(NpuSimulation(model, target.integer_rules), model, target, tool)
            except (ToolError, UserError) as error:
                estimated = f"no cycles of VeriSilicon's emulator, so the latency is an estimate: {error}"
        if cycles is not None:
            known = {finding.operator for finding in result.findings if finding.rule == "shader"}
            measured = [finding for finding in cycles.findings() if finding.operator not in known]
            result = replace(result, findings=(*result.findings, *measured), cycles=cycles)
        written = write_files(result, save_dir, picture)
        text, values = text_report(result), result.to_json()
        if cycles is not None:
            text = "\n".join([text, "", cycles.to_text()])
        if rows is not None:
            values["emulator"] = [asdict(row) for row in rows]
            text = "\n".join([text, "", _AGREEMENT, agreement_table(rows)])
        if estimated:
            text = "\n".join([text, "", estimated])
        return Checked(text, values, bool(result.rules_broken), written)
    if picture:
        raise UserError(
            f"--picture is drawn of opt's partition, and {target.name} is compiled by "
            f"{'rknn-toolkit2' if by_rknn else 'Vela'}: leave it out"
        )
    made: RknnCheck | VelaCheck = (
        check_with_rknn(model, target, rknn.find(Machine()))
        if by_rknn
        else check_with_vela(model, target, vela.find(Machine(opt=opt)))
    )
    path = Path(save_dir) / FOLDER / f"{target.name}.json"
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, made.to_json())
    return Checked(made.to_text(), made.to_json(), bool(made.rules_broken), [path])


def _emulator_of(target: Target) -> Emulator | None:
    """The installed emulator that has the target's NPU, if there is one."""
    if target.verisilicon is None:
        return None
    try:
        tool = verisilicon.find(Machine())
        return tool if target.verisilicon.chip in verisilicon.known_chips(tool) else None
    except ToolError:
        return None


def _compiled_alone(
    target: Target, rows: list[Agreement], cycles: Cycles, save_dir: str, picture: str | None
) -> Checked:
    """A model with zero points on VeriSilicon's emulator: what there is to say without opt, which would read another.

    Raises: `UserError` for a picture, which is drawn of what opt says.
    """
    if picture:
        raise UserError(
            "--picture is drawn of opt's partition, and Paddle Lite cannot hold a network with zero points: "
            "leave it out"
        )
    advice = list(cycles.findings())
    time = cycles.time.to_text() if cycles.time else NO_TIME
    facts = [("target", target.name), ("opt", _NO_OPT), ("cycles", cycles.summary()), ("time", time)]
    lines = [f"{name:<16}{value}" for name, value in facts]
    lines += [f"{one.rule}: {one.operator}: {one.message} -> {one.mend}" for one in advice]
    text = "\n".join([*lines, "", cycles.to_text(), "", _AGREEMENT, agreement_table(rows)])
    values = {
        "target": target.name,
        "opt": _NO_OPT,
        "advice": [asdict(one) for one in advice],
        "cycles": cycles.to_json(),
        "emulator": [asdict(row) for row in rows],
    }
    path = Path(save_dir) / FOLDER / f"{target.name}.json"
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, values)
    return Checked(text, values, False, [path])


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


def on_emulator(model: ModelFolder, target: Target) -> tuple[list[Agreement], Cycles]:
    """An INT8 model on VeriSilicon's emulator of a target: each operator beside the simulation, and the whole's cycles.

    Raises: `ToolError` when the emulator is not installed, has no such NPU, or cannot run the operators.
    """
    tool = verisilicon.find(Machine())
    chip = verisilicon.chip_of(target, tool)
    simulation = NpuSimulation(model, target.integer_rules)
    image = generated_image(simulation)
    cycles = cycles_of(simulation, model, target, tool)
    apart = NpuSimulation(model, target.integer_rules.kept)  # in which every tensor is looked at
    return compare_with_emulator(apart, image, tool, chip), cycles


def cycles_of(simulation: NpuSimulation, model: ModelFolder, target: Target, tool: Emulator) -> Cycles:
    """The cycles of an image on a target's NPU, which the emulator's driver says without running one.

    Args:
        simulation: of the model by the target's rules.

    Raises: `ToolError` when the emulator has no such NPU, or its driver refuses the network.
    """
    chip = verisilicon.chip_of(target, tool)
    cycles = replace(measure_cycles(simulation, tool, chip), model=sha256(model.params))
    return (
        cycles if cycles.per_channel else replace(cycles, time=time_of(cycles.total, chip, target.latency_ms))
    )


def write_files(result: CheckResult, save_dir: str, picture: str | None = None) -> list[Path]:
    """Write picture, JSON and, where it helps, the partition file; returns their paths."""
    drawing = Path(picture) if picture else Path(save_dir) / FOLDER / f"{result.target}.svg"
    with disk_errors(drawing):
        drawing.parent.mkdir(parents=True, exist_ok=True)
        title = f"{result.target}: {result.npu_pieces} NPU piece{'s' * (result.npu_pieces != 1)}"
        cycles = result.cycles.of_tensors if result.cycles is not None else None
        write_text(drawing, draw(result.graph, title, cycles))
        written = [drawing, drawing.with_suffix(".json")]
        write_json(written[1], result.to_json())
        partition = drawing.with_suffix(".partition.txt")
        partition.unlink(missing_ok=True)
        if result.partition:
            write_text(partition, result.partition)
            written.append(partition)
    return written
