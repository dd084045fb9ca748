"""Whether a package is what its manifest says, and still detects on this machine what it should."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.backends.onnx.runtime import OnnxPredictor
from picoquant.backends.paddle.runtime import open_predictor
from picoquant.backends.paddle.smoke_test import require_survives
from picoquant.backends.paddle_lite.opt_tool import OptTool
from picoquant.backends.paddle_lite.runtime import X86Predictor, runtime_of
from picoquant.backends.paddle_lite.x86_form import write_float_form
from picoquant.errors import UserError
from picoquant.packaging import expectation
from picoquant.packaging.archive import SUFFIX, extract
from picoquant.packaging.forms import ONNX, PADDLE
from picoquant.packaging.manifest import NAME, changed_files, read_manifest
from picoquant.packaging.sample import read_ppm
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.network_input import feed_of_image
from picoquant.paddle_program.program import program_facts
from picoquant.postprocess import Decoder
from picoquant.runtimes.detect import detect

LOG = logging.getLogger("picoquant")


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: `files`, `onnx`, `paddle`, `paddle_lite_x86`.
        holds: None: not tried.
        said: what is wrong, or why it was not tried, or what was found.
    """

    name: str
    holds: bool | None
    said: tuple[str, ...]


@dataclass(frozen=True)
class Verification:
    """What a package is worth.

    Attributes:
        package: its path, as given.
        target: name.
        checks: in the order they were made.
    """

    package: str
    target: str
    checks: tuple[Check, ...]

    @property
    def holds(self) -> bool:
        """Whether nothing that was tried was wrong."""
        return all(check.holds is not False for check in self.checks)

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        checks = {check.name: {"holds": check.holds, "said": list(check.said)} for check in self.checks}
        return {"package": self.package, "target": self.target, "holds": self.holds, "checks": checks}


def verify(path: Path, opt: OptTool | None = None) -> Verification:
    """Check a package: the hashes, and its sample in each runtime that is here.

    Args:
        path: the folder of a package or its `.tar.gz`.
        opt: Paddle Lite's opt; with its Python environment beside it the model's weights are run in Paddle
            Lite's x86 runtime, too, in float.

    Raises: `UserError` when it is no package or an archive that must not be unpacked.
    """
    with _opened(Path(path)) as folder:
        manifest = read_manifest(folder)
        wrong = changed_files(folder, manifest)
        count = f"{len(manifest['files'])} files as in {NAME}"
        checks = [Check("files", not wrong, tuple(wrong) or (count,))]
        if wrong:
            checks.append(Check("sample", None, ("the files are not those of the manifest",)))
        else:
            checks += _on_the_sample(folder, opt)
        return Verification(str(path), str(manifest.get("target", {}).get("name", "")), tuple(checks))


@contextmanager
def _opened(path: Path) -> Iterator[Path]:
    if path.is_dir():
        yield path
        return
    if not path.is_file():
        raise UserError(f"no such package: {path}; name the folder of a package or its {SUFFIX}")
    with tempfile.TemporaryDirectory(prefix="picoquant-verify-") as scratch:
        yield extract(path, Path(scratch))


@dataclass(frozen=True)
class _Sample:
    folder: Path
    model: ModelFolder
    decoder: Decoder
    feed: dict[str, np.ndarray]
    expected: Any
    tolerance: expectation.Tolerance

    @classmethod
    def read(cls, folder: Path) -> _Sample:
        model = ModelFolder.open(folder / PADDLE)
        outputs = program_facts(model.model).outputs
        decoder = Decoder.of(*zip(*outputs), model.config, model=str(model.model))
        image = read_ppm(folder / "sample" / "image.ppm")
        path = folder / "sample" / "expected.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"{path} is missing or no JSON: package the model again") from error
        expected, tolerance = expectation.from_json(values, str(path))
        return cls(folder, model, decoder, feed_of_image(image, model.config), expected, tolerance)

    def check(self, name: str, predict: Any) -> Check:
        """Run the sample and compare."""
        try:
            found = detect(predict, self.decoder, self.feed)
        except UserError as error:
            return Check(name, False, (str(error),))
        labels = self.model.config.labels
        wrong = expectation.differences(self.expected, found, self.tolerance, labels)
        must = int((self.expected.scores >= self.tolerance.min_score).sum())
        return Check(name, not wrong, tuple(wrong) or (f"{must} detections as expected",))


def _on_the_sample(folder: Path, opt: OptTool | None) -> list[Check]:
    sample = _Sample.read(folder)
    facts = program_facts(sample.model.model)
    names = tuple(name for name, _ in facts.inputs)
    LOG.info("verify: the sample in Paddle's inference runtime")
    crashed = False
    try:
        require_survives(sample.model)
    except UserError as error:
        crashed, checks = True, [Check("paddle", False, (str(error),))]
    else:
        checks = [_in_paddle(sample)]
    onnx = folder / ONNX
    if onnx.is_file():
        LOG.info("verify: the sample in ONNX Runtime")
        checks.append(_in_onnx(sample, onnx))
    else:
        checks.append(Check("onnx", None, (f"the package has no {ONNX}",)))
    if crashed:  # on the way to Paddle Lite's form Paddle's native code reads the program, too
        checks.append(Check("paddle_lite_x86", None, ("not tried, as Paddle crashes on the model",)))
    else:
        checks.append(_in_lite(sample, names, len(facts.outputs), opt))
    return checks


def _in_paddle(sample: _Sample) -> Check:
    try:
        predict = open_predictor(sample.model, threads=1)
    except UserError as error:
        return Check("paddle", False, (str(error),))
    return sample.check("paddle", predict)


def _in_onnx(sample: _Sample, path: Path) -> Check:
    try:
        predict = OnnxPredictor(path, threads=1)
    except UserError as error:
        return Check("onnx", False, (str(error),))
    return sample.check("onnx", predict)


def _in_lite(sample: _Sample, names: tuple[str, ...], outputs: int, opt: OptTool | None) -> Check:
    name = "paddle_lite_x86"
    if opt is None:
        return Check(name, None, ("Paddle Lite is not installed: picoquant toolchain install",))
    python = runtime_of(opt)
    if python is None:
        return Check(name, None, (f"{opt.path} has no Python runtime beside it",))
    LOG.info("verify: the sample in Paddle Lite's x86 runtime")
    with tempfile.TemporaryDirectory(prefix="picoquant-float-") as scratch:
        model, params = Path(scratch) / "model.pdmodel", Path(scratch) / "model.pdiparams"
        try:
            write_float_form(sample.model, model, params)
            predict = X86Predictor(python, opt, model, params, names, outputs)
        except UserError as error:
            return Check(name, False, (str(error),))
        with predict:
            return sample.check(name, predict)
