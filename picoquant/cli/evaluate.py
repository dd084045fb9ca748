"""`picoquant eval`: mAP of a run's models, or of any model, on one runtime or on all of them."""

from __future__ import annotations

import json

import click

from picoquant.backends.table import DYGRAPH, REFERENCE
from picoquant.cli import completion, console
from picoquant.cli.options import (
    backend_option,
    common_options,
    data_option,
    data_overrides,
    gather_overrides,
    slice_options,
    slicing_of,
)
from picoquant.errors import PicoquantError
from picoquant.utils.device import rank_and_world


@click.command("eval")
@common_options
@data_option
@click.option("--weights", metavar="FILE", help="Evaluate these trained weights.")
@click.option("--model-dir", metavar="DIR", help="Evaluate this exported model (FP32 or INT8).")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="PATH",
    help="A model folder, .onnx file or package, in place of the run's (repeatable).",
)
@backend_option
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="NAME",
    shell_complete=completion.targets,
    help="Simulate this NPU's integers, too (repeatable): the INT8 model's mAP before there is a board.",
)
@click.option(
    "--emulator",
    is_flag=True,
    help="With --target: on VeriSilicon's emulator of its NPU, too; results are kept, by hash.",
)
@click.option(
    "--every-tensor",
    is_flag=True,
    help="With --emulator: compare every tensor with the simulation, not the outputs alone.",
)
@click.option(
    "--acuity",
    is_flag=True,
    help="The INT8 model in VeriSilicon's acuity's own simulation, too: every image, in one process.",
)
@click.option(
    "--fidelity",
    metavar="DIR",
    help="How well INT8 finds again what FP32 detects, on any folder of images; no labels are needed.",
)
@click.option(
    "--ladder", is_flag=True, help="Evaluate each step of the run, from trained weights to the .nb."
)
@click.option(
    "--max-loss",
    type=click.FloatRange(0, 1),
    help="With --ladder: the mAP (0 to 1) that a step may lose (default: 0.01).",
)
@slice_options
@click.option("--threads", type=click.IntRange(0), default=0, help="CPU threads (default: all).")
@click.option(
    "--images", type=click.IntRange(1), metavar="N", help="With --backend: only the first N images."
)
@click.option("--per-class", is_flag=True, help="With --backend: AP of each class, too.")
@click.option("--json", "as_json", is_flag=True, help="The numbers as JSON on stdout.")
def evaluate(
    config,
    save_dir,
    overrides,
    more_overrides,
    input_size,
    device,
    force,
    opt,
    data,
    weights,
    model_dir,
    models,
    backends,
    targets,
    emulator,
    every_tensor,
    acuity,
    fidelity,
    ladder,
    max_loss,
    parts,
    overlap,
    merge,
    threads,
    images,
    per_class,
    as_json,
):
    """COCO mAP of the run's FP32 and INT8 models, or of weights or models named here.

    With --backend or --model the models run on the runtimes named, one row each: mAP, latency, size, the
    difference from FP32 and how sure it is; results go to backends/ in --save-dir. --fidelity takes FP32's
    detections on your own images as the truth. With --ladder each step of
    the run is compared with the one before; a step that loses more than --max-loss ends with exit code 1.

    \b
    Examples:  picoquant eval --config quickstart.yaml --save-dir output/
               picoquant eval --backend all --save-dir output/
               picoquant eval --target rv1126 --save-dir output/
               picoquant eval --slice 320 --overlap 0.25 --merge nmm --save-dir output/
               picoquant eval --target a311d --emulator --images 20 --save-dir output/
               picoquant eval --acuity --save-dir output/
               picoquant eval --fidelity photos/ --save-dir output/
               picoquant eval --ladder --save-dir output/
               picoquant eval --config picodet_s_416_coco_npu.yml --weights best.pdparams --json
               picoquant eval --data cells/ --config picodet_s_416_coco_npu.yml --weights best.pdparams
    """
    given = {"weights": weights, "model_dir": model_dir}
    typed = (*data_overrides(data, ["EvalDataset"]), *overrides)
    texts = gather_overrides(typed, more_overrides, input_size=input_size, **given)
    if max_loss is not None and not ladder:
        raise click.UsageError("--max-loss needs --ladder")
    if emulator and (ladder or not targets):
        raise click.UsageError("--emulator needs --target, without --ladder (for example --target a311d)")
    if every_tensor and not emulator:
        raise click.UsageError("--every-tensor needs --emulator")
    if acuity and ladder:
        raise click.UsageError("--acuity is no step of a run: leave --ladder out")
    if ladder and fidelity:
        raise click.UsageError("--ladder needs labels, --fidelity takes images without: give one of them")
    slicing = slicing_of(parts, overlap, merge)
    if slicing and ladder:
        raise click.UsageError("--ladder compares steps on whole images: leave --slice out")
    if ladder:
        _ladder(
            config,
            texts,
            save_dir,
            (device, opt, threads),
            images,
            targets,
            max_loss,
            as_json,
            models or backends,
        )
        return
    if slicing and (weights or model_dir):
        backends = backends or (DYGRAPH if weights else REFERENCE,)
    if backends or models or targets or fidelity or slicing or acuity:
        from picoquant.backends.base import Machine
        from picoquant.commands.compare_runtimes import evaluate_backends

        machine = Machine(threads, device, opt)
        chosen = backends or (REFERENCE,)
        result = evaluate_backends(
            config, texts, save_dir, chosen, models, machine, images, targets,
            fidelity_on=fidelity, slicing=slicing, emulator=emulator, every_tensor=every_tensor,
            in_acuity=acuity,
        )  # fmt: skip
        click.echo(json.dumps(result.to_json(), indent=2) if as_json else result.to_text(per_class))
        return
    if images or per_class or threads:
        raise click.UsageError(
            "--images, --threads and --per-class need --backend (for example --backend paddle)"
        )
    if (weights or model_dir) and config is None:
        raise click.UsageError("--config is needed: it says which data set to evaluate on")
    from picoquant.stages.evaluate import evaluate_alone, evaluated_alone
    from picoquant.stages.order import earlier_config, run_recipe
    from picoquant.stages.plan import load_plan

    plan = load_plan(config or earlier_config(save_dir), texts)
    if evaluated_alone(plan, save_dir):
        results = evaluate_alone(plan, (), device, save_dir)
    else:
        run = run_recipe(
            plan, save_dir, texts, "evaluate", "evaluate", device, force, opt, console.log_to_file
        )
        results = run.record("evaluate").get("metrics", {})
    if as_json and rank_and_world()[0] == 0:
        click.echo(json.dumps({"backends": results}, indent=2))


def _ladder(config, texts, save_dir, machine, images, targets, max_loss, as_json, others) -> None:
    from picoquant.backends.base import Machine
    from picoquant.commands.parity_ladder import MAX_LOSS, evaluate_ladder

    if others:
        raise click.UsageError("--ladder takes the run's own steps: leave --backend and --model out")
    device, opt, threads = machine
    allowed = MAX_LOSS if max_loss is None else max_loss
    ladder = evaluate_ladder(config, texts, save_dir, Machine(threads, device, opt), images, targets, allowed)
    click.echo(json.dumps(ladder.to_json(), indent=2) if as_json else ladder.to_text())
    if ladder.broken:
        raise PicoquantError(ladder.verdict())
