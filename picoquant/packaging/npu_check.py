"""The check of a package's model on its target: what goes into the manifest, and what the user is told."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from picoquant.backends.base import Found
from picoquant.backends.paddle_lite.opt_tool import OptTool
from picoquant.npu.check import check_model
from picoquant.npu.vela_check import check_with_vela
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.targets.profiles import Target

LOG = logging.getLogger("picoquant")

PARTITION = "partition.txt"
# Keys of a check that say nothing where there is no NPU.
_OF_NPUS = (
    "device",
    "npu_pieces",
    "cpu_operators",
    "conversions",
    "partition_file",
    "npu_pieces_with_partition_file",
)


@dataclass(frozen=True)
class Checked:
    """What `picoquant check` found.

    Attributes:
        values: for `manifest["check"]`.
        warnings: a line for each rule that is broken.
        partition: content of the partition file; empty where none helps.
    """

    values: dict[str, Any]
    warnings: tuple[str, ...]
    partition: str


def check_for_package(model: ModelFolder, target: Target, opt: OptTool) -> Checked:
    """Check a model on a target that Paddle Lite reaches; a broken rule is a warning, no error.

    Where a partition file helps, the package holds it: the manifest names the file and keeps no copy of it.

    Raises: `ToolError` when opt refuses the model.
    """
    result = check_model(model, target, opt)
    values = result.to_json()
    for key in () if target.on_npu else _OF_NPUS:
        del values[key]
    if result.partition:
        values["partition_file"] = PARTITION
    counts: dict[str, int] = {}
    for finding in result.rules_broken:
        counts[finding.rule] = counts.get(finding.rule, 0) + 1
    firsts = {finding.rule: finding for finding in reversed(result.rules_broken)}
    warnings = []
    for rule, count in counts.items():
        finding = firsts[rule]
        at = f"{finding.operator}: " if finding.operator else ""
        more = f" (and {count - 1} more)" if count > 1 else ""
        warnings.append(
            f"{target.name}: rule {rule} is broken: {at}{finding.message}{more} -> {finding.mend}"
        )
    wrong = next((finding for finding in result.findings if finding.rule == "tables"), None)
    if wrong is not None:
        warnings.append(f"{target.name}: {wrong.operator}: {wrong.message} -> {wrong.mend}")
    for line in warnings:
        LOG.warning("%s", line)
    slow = [finding for finding in result.findings if finding.rule == "shader"]
    if slow:
        LOG.info(
            "%s: %d layers run on shaders, many times slower than the NN cores: %s -> %s",
            target.name,
            len(slow),
            slow[0].message,
            slow[0].mend,
        )
    return Checked(values, tuple(warnings), result.partition)


def check_of_vela(model: ModelFolder, target: Target, tools: Mapping[str, Found]) -> Checked | None:
    """Check a model on a target that Vela compiles for; an operator on the CPU is a warning, no error.

    Args:
        model: INT8.
        target: the board.
        tools: those that were found, by the names of their backends; None is returned without Vela among them.

    Raises: `ToolError` when Vela refuses the model.
    """
    tool = tools.get("ethos-u")
    if target.ethos_u is None or tool is None:
        return None
    result = check_with_vela(model, target, tool)
    broken = result.rules_broken
    lines = [f"{target.name}: {found.operator}: {found.message} -> {found.mend}" for found in broken]
    for line in lines:
        LOG.warning("%s", line)
    return Checked(result.to_json(), tuple(lines), "")
