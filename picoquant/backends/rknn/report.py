"""What rknn-toolkit2 says of a model while it builds it: where each operator runs, cycles, memory."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from picoquant.backends.onnx.files import write_onnx
from picoquant.backends.own_environment.package import OwnTool
from picoquant.backends.placement import CPU, NPU, BoardReport
from picoquant.backends.rknn.form import make_form
from picoquant.backends.rknn.platforms import platform_of
from picoquant.backends.rknn.toolkit import Session
from picoquant.backends.source import Source
from picoquant.errors import ToolError
from picoquant.targets.profiles import Target

# A row of its "Network Layer Information Table": number, operator, type, place, shapes, cycles of DDR, NPU and both,
# kilobytes, full name.
_ROW = re.compile(
    r"RKNN: \[[\d:.]+\]\s+\d+\s+(?P<kind>\w+)\s+(?:\w+\s+)?(?P<place>CPU|NPU|GPU)\s.*?"
    r"\s(?P<ddr>\d+)/(?P<npu>\d+)/(?P<total>\d+)\s+(?:[\d.]+\s+)?(?P<name>\S*)"
)
_MEMORY = re.compile(r"Total (Internal|Weight) Memory Size: ([\d.]+)KB")
_BORDER = ("InputOperator", "OutputOperator")  # the buffers


def report(source: Source, tool: OwnTool, target: Target) -> BoardReport:
    """The toolkit's report, see `base.Report`; its cycles are estimates of its own, and it gives no time.

    Raises: `ToolError` for a chip that it does not build for, or with its own word when it refuses the model.
    """
    platform = platform_of(target)
    with tempfile.TemporaryDirectory(prefix="picoquant-rknn-") as scratch:
        model = Path(scratch) / "model.onnx"
        write_onnx(make_form(source.network, platform), model)
        with Session(tool) as session:
            said = session.build(model, platform, Path(scratch) / "model.rknn")
    return read_report(said, tool.version)


def read_report(text: str, version: str) -> BoardReport:
    """The tables in what the toolkit prints.

    Raises: `ToolError` when they have another form.
    """
    rows = [row for row in _ROW.finditer(text) if row["kind"] not in _BORDER]
    memory = {
        {"Internal": "tensors", "Weight": "weights"}[kind]: round(float(size) * 1024)
        for kind, size in _MEMORY.findall(text)
    }
    if not rows or len(memory) != 2:
        raise ToolError(f"the report of rknn-toolkit2 {version} has another form than that of 2.5.0")
    on_npu = sum(row["place"] == NPU.upper() for row in rows)
    return BoardReport(
        cycles=sum(int(row["total"]) for row in rows),
        memory=memory,
        operators={NPU: on_npu, CPU: len(rows) - on_npu},
        on_cpu=tuple(
            (row["kind"], row["name"].partition(":")[2]) for row in rows if row["place"] != NPU.upper()
        ),
    )
