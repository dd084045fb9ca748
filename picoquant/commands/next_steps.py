"""What a person does after a run, with the commands to copy: look at the result, try it, take it to the board."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from pathlib import Path

from picoquant.data.formats.load import files_of
from picoquant.errors import UserError
from picoquant.packaging.archive import SUFFIX
from picoquant.packaging.forms import forms_of
from picoquant.stages.datasets import settings_of
from picoquant.stages.order import STAGES
from picoquant.stages.plan import Plan
from picoquant.stages.stage import Context
from picoquant.storage.run_folder import CONFIG, RunFolder
from picoquant.targets.profiles import Target

SAMPLE = Path("sample/image.png")  # of a package


def next_steps(
    plan: Plan,
    run: RunFolder,
    save_dir: str,
    last: str | None = None,
    page: Path | None = None,
    device: str = "cpu",
    opt: str | None = None,
) -> list[str]:
    """Lines that end a run: each says what for, the next, indented, is the command as a shell takes it.

    Args:
        plan: the recipe that was run.
        run: its folder.
        save_dir: the same as the user named it; commands name it so, too.
        last: the stage that was to be the last; what the folder holds of later ones may be of an earlier run.
        page: the report that was written already.
        device: `--device` of the run.
        opt: `--opt` of the run.
    """
    names = [stage.name for stage in STAGES]
    names = names[: names.index(last) + 1] if last else names
    done = {name for name in names if run.record(name).get("status") == "done"}
    model = next((name for name in ("quantize", "export") if name in done), None)
    lines = []
    if page is not None:
        lines.append(f"look: the whole run on one page is {page}")
    elif model or "evaluate" in done:
        lines += [
            "look: the whole run on one page, report.html in that folder",
            _command("report", "--save-dir", save_dir),
        ]
    packages = _packages(plan, save_dir) if "package" in done else []
    image = _sample(packages) or _image(plan, run)
    if model and image is not None:
        what = "INT8" if model == "quantize" else "FP32"
        lines += [
            f"try: what the {what} model finds in an image; name others, folders or a video in its place",
            _command("predict", str(image), "--save-dir", save_dir),
        ]
    return [*lines, *_to_the_board(packages, model, plan, save_dir, device, opt)]


def _command(*words: str) -> str:
    return f"    {shlex.join(['picoquant', *words])}"


def _packages(plan: Plan, save_dir: str) -> list[tuple[Target, Path]]:
    """Each target of the recipe with its package's folder, as the user reaches it."""
    return [(target, Path(save_dir) / "package" / target.name) for target in plan.targets]


def _sample(packages: list[tuple[Target, Path]]) -> Path | None:
    images = (folder / SAMPLE for _, folder in packages)
    return next((image for image in images if image.expanduser().is_file()), None)


def _image(plan: Plan, run: RunFolder) -> Path | None:
    """An image of the evaluation data set; None where that is not here."""
    try:
        images = files_of(settings_of(Context(plan, run, "cpu"), "EvalDataset"))[1]
    except UserError:
        return None
    return images[0] if images else None


def _to_the_board(
    packages: list[tuple[Target, Path]],
    model: str | None,
    plan: Plan,
    save_dir: str,
    device: str,
    opt: str | None,
) -> Iterator[str]:
    tool = ["--opt", opt] if opt else []
    if packages:
        archives = [str(folder) + SUFFIX for _, folder in packages]
        how = "how it is run" if all(forms_of(target).lite for target, _ in packages) else "what it holds"
        copied = (
            shlex.quote(archives[0]) if len(archives) == 1 else f"that of your board, {_listed(archives)}"
        )
        yield f"take it to the board: copy {copied}; README.md in it says {how}. To check it before:"
        yield _command("verify", archives[0], *tool)
    elif model == "quantize":
        names = [target.name for target in plan.targets]
        yield f"take it to the board: make the package, here for {_listed(names)} (`picoquant targets` lists all)"
        yield _command("package", "--save-dir", save_dir, *tool)
    else:
        config = str(Path(save_dir) / CONFIG)
        where = [] if device == "cpu" else ["--device", device]
        yield "go on to the INT8 model and the board's package: what is done is not done again"
        yield _command("run", "--config", config, "--save-dir", save_dir, *where, *tool)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:-1]) + (" or " if len(names) > 1 else "") + names[-1]
