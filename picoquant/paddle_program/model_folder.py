"""A model folder: an exported Paddle inference model with its `infer_cfg.yml`."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from picoquant.errors import WeightsError
from picoquant.paddle_program.infer_config import InferConfig, read_infer_config
from picoquant.paddle_program.network_input import require_input_size
from picoquant.paddle_program.program import program_facts

LOG = logging.getLogger("picoquant")

MODEL = "model.pdmodel"
PARAMS = "model.pdiparams"

# Names that tools give the two files: PaddleDetection; PaddleX and PaddleClas; Paddle 1 and PaddleSlim; with Paddle 3
# PaddleX and PaddleDetection, whose programs are JSON.
_PAIRS = (
    (MODEL, PARAMS),
    ("inference.pdmodel", "inference.pdiparams"),
    ("__model__", "__params__"),
    ("inference.json", "inference.pdiparams"),
    ("model.json", PARAMS),
)
_PROGRAMS = (".pdmodel", ".json")


@dataclass(frozen=True)
class ModelFolder:
    """The files of an exported model; `open` checks that they are there and fit each other.

    Attributes:
        path: the folder.
        model: path of the program, a protobuf `ProgramDesc` or Paddle 3's JSON; `program.read_program` reads either.
        params: path of its weights, one file.
        config: input size, preprocessing, labels, strides and NMS.
    """

    path: Path
    model: Path
    params: Path
    config: InferConfig

    @classmethod
    def open(
        cls,
        path: Path,
        model_filename: str = MODEL,
        params_filename: str = PARAMS,
        config: InferConfig | None = None,
        compare: bool = True,
    ) -> ModelFolder:
        """Open an exported model.

        Args:
            path: the folder.
            model_filename, params_filename: names of the files in it, see `find_files`.
            config: used instead of the folder's `infer_cfg.yml` or `inference.yml`, which may then be missing.
            compare: read the program, which takes Paddle's import; without it only the files are looked for.

        Raises: `WeightsError` naming the missing file and what to do, if `infer_cfg.yml` or the program is invalid, or
            naming both sizes where the program takes images of another size than they are prepared in.
        """
        path = Path(path).expanduser()
        model, params = find_files(path, model_filename, params_filename)
        config = config or read_infer_config(path, model.name)
        if compare:
            require_input_size(program_facts(model).inputs, config, str(model))
        return cls(path, model, params, config)


def find_files(
    path: Path, model_filename: str = MODEL, params_filename: str = PARAMS, say: bool = True
) -> tuple[Path, Path]:
    """Program and weights in a model folder: those named, or the pair of another tool's names.

    Names that are not the default ones are taken as they are. Otherwise the two files are looked for under each pair
    of `_PAIRS`, and then as the only `.pdmodel`, or else the only `.json`, with a `.pdiparams` of its name.

    Args:
        path: the folder.
        model_filename, params_filename: names of the files in it.
        say: whether a line says that other names are used.

    Raises: `WeightsError` naming the missing file and what to do.
    """
    path = Path(path).expanduser()
    if not path.is_dir():
        raise WeightsError(f"no such model folder: {path}; export a model there first")
    named = (model_filename, params_filename)
    found = named
    if named == (MODEL, PARAMS) and not (path / MODEL).is_file():
        found = _pair_in(path) or named
    elif params_filename == PARAMS and not (path / PARAMS).is_file():
        found = (model_filename, _params_of(path, model_filename) or params_filename)
    elif model_filename == MODEL and not (path / MODEL).is_file():
        names = (Path(params_filename).with_suffix(suffix).name for suffix in _PROGRAMS)
        beside = next((name for name in names if (path / name).is_file()), model_filename)
        found = (beside, params_filename)
    model, params = (path / name for name in found)
    if not model.is_file():
        raise WeightsError(_missing_model(path, model))
    if not params.is_file():
        raise WeightsError(
            f"{params} is missing: copy it from where {model.name} was exported, or name it "
            "with params_filename"
        )
    if say and found != named:
        LOG.info("%s: its files are %s and %s", path, *found)
    return model, params


def _pair_in(path: Path) -> tuple[str, str] | None:
    """The first of `_PAIRS` in a folder, or its only other pair."""
    for pair in _PAIRS:
        if all((path / name).is_file() for name in pair):
            return pair
    for suffix in _PROGRAMS:
        files = sorted(path.glob(f"*{suffix}"))
        named = [file for file in files if file.with_suffix(".pdiparams").is_file()]
        if named:
            return (named[0].name, named[0].with_suffix(".pdiparams").name) if len(named) == 1 else None
    return None


def _params_of(path: Path, model: str) -> str | None:
    """The weights of a program that is named alone."""
    beside = [params for program, params in _PAIRS if program == model]
    return next((n for n in (*beside, f"{Path(model).stem}.pdiparams") if (path / n).is_file()), None)


def _missing_model(path: Path, model: Path) -> str:
    others = sorted(file.name for file in path.glob("*.pdmodel"))
    if not others:  # any file may be JSON: only one beside its weights is offered, and Paddle 3's usual names
        weights = [file.stem for file in sorted(path.glob("*.pdiparams"))]
        others = [
            name
            for name in dict.fromkeys(f"{stem}.json" for stem in (*weights, "inference", "model"))
            if (path / name).is_file()
        ]
    there = f"; {', '.join(others)} is there: name it with model_filename" if others else ""
    if not there and (path / "__model__").is_file():
        there = (
            "; __model__ is there without __params__: save its weights in one file of that name, or name both files "
            "with model_filename and params_filename"
        )
    return f"{model} is missing{there or ': export the model there first'}"
