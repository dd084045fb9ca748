"""`picoquant convert-weights`: from one form of weights to another."""

from __future__ import annotations

from pathlib import Path

import click

from picoquant.cli.completion import configs
from picoquant.cli.options import InputSize, gather_overrides, overrides_option
from picoquant.errors import UserError


@click.command("convert-weights")
@click.argument("source", metavar="IN")
@click.argument("out", metavar="OUT")
@click.option(
    "--config", "-c", metavar="FILE", shell_complete=configs,
    help="For ONNX and model folders: the recipe or configuration it was exported from.",
)  # fmt: skip
@click.option("--input-size", type=InputSize(), help="For an export whose input size is open.")
@click.option("--half", is_flag=True, help="Store 16 bits a number, in half the size; read as float32 again.")
@overrides_option
def convert_weights(
    source: str,
    out: str,
    config: str | None,
    input_size: list[int] | None,
    half: bool,
    overrides: tuple[str, ...],
    more_overrides: tuple[str, ...],
) -> None:
    """Weights to weights: .pdparams, .safetensors, .npz, mmdet's .pth either way; a float ONNX or model folder in.

    \b
    Examples:  picoquant convert-weights picodet.pdparams picodet.safetensors
               picoquant convert-weights picodet.onnx picodet.pdparams \\
                 --config picodet_s_416_coco_npu.yml --set num_classes=3
    """
    if Path(source).suffix == ".onnx" or Path(source).is_dir():
        if half:
            raise click.UsageError("--half is for weights; convert what this makes of the export once more")
        if config is None:
            raise click.UsageError("an export needs --config: the configuration it was exported from")
        click.echo(_from_onnx(source, out, config, input_size, overrides, more_overrides))
        return
    from picoquant.pruning.record import copy_record, read_shapes
    from picoquant.weight_files.files import halved, read_weights, write_weights

    state = read_weights(source)
    if Path(out).resolve() == Path(source).resolve():
        raise UserError(f"{out}: IN and OUT are the same file")
    read_shapes(Path(source))  # refuses a damaged one
    write_weights(halved(state, source) if half else state, out)
    copy_record(Path(source), Path(out))
    click.echo(f"{out}: {len(state)} arrays")


def _from_onnx(source, out, config, input_size, overrides, more_overrides) -> str:
    from picoquant.convert.from_onnx import load_onnx
    from picoquant.detector.build import build_picodet
    from picoquant.detector.weights import save_weights
    from picoquant.stages.plan import load_plan

    plan = load_plan(config, gather_overrides(overrides, more_overrides, input_size=input_size))
    model = build_picodet(plan.detector)
    report = load_onnx(model, Path(source), plan.input_size)
    save_weights(model, out)
    folded = f", {report.folded} with their batch-norm folded in" if report.folded else ""
    return (
        f"{out}: {report.convs} convolutions{folded}; ONNX Runtime and the network differ by "
        f"{report.difference:.1e} of the largest of {report.outputs} outputs"
    )
