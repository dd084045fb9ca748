"""Whether a package is what its manifest says, and still detects on this machine what it should."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.backends.base import Backend, Machine, load_backends
from picoquant.backends.paddle.smoke_test import require_survives
from picoquant.backends.table import BACKENDS
from picoquant.backends.verisilicon import toolchain as verisilicon
from picoquant.errors import ToolError, UserError
from picoquant.npu.emulated.compiled import CompiledFacts, CompiledNetwork
from picoquant.packaging import expectation
from picoquant.packaging.archive import SUFFIX, extract
from picoquant.packaging.forms import ONNX, PADDLE, files_in
from picoquant.packaging.manifest import NAME, backends_of, changed_files, images_a_call, read_manifest
from picoquant.packaging.sample import read_ppm
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.network_input import feed_of_image, select_inputs
from picoquant.paddle_program.program import program_facts
from picoquant.postprocess import Decoder
from picoquant.runtimes.backends import opened
from picoquant.runtimes.model import Model
from picoquant.utils.batching import DYNAMIC

LOG = logging.getLogger("picoquant")

_ONE_THREAD = Machine(threads=1)


@dataclass(frozen=True)
class Check:
    """One thing that was looked at.

    Attributes:
        name: `files`, `onnx`, `paddle`, `paddle_lite_x86`, `compiled`.
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


def verify(path: Path, machine: Machine = _ONE_THREAD, known: Mapping[str, str] = BACKENDS) -> Verification:
    """Check a package: the hashes, and its sample in each runtime that is here.

    Args:
        path: the folder of a package or its `.tar.gz`.
        machine: threads, opt.
        known: the backends, see `table.BACKENDS`.

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
            checks += _on_the_sample(folder, manifest, machine, known)
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
    onnx_images: Any  # a call of the package's ONNX file, see `images_a_call`
    needed: frozenset[str]  # names of the backends whose files it must hold

    @classmethod
    def read(cls, folder: Path, manifest: dict[str, Any]) -> _Sample:
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
        images = images_a_call(manifest, ONNX) if (folder / ONNX).is_file() else 1
        feed = feed_of_image(image, model.config)
        needed = frozenset(["onnx", *backends_of(manifest)])
        return cls(folder, model, decoder, feed, expected, tolerance, images, needed)

    def check(self, name: str, predict: Any, images: Any = 1) -> Check:
        """Run the sample, in each place of a call of several images, and compare.

        Args:
            name: of the check.
            predict: the model.
            images: a call, see `images_a_call`; any number is tried with 2.
        """
        if images != 1:
            shape = next((shape for _, shape in predict.outputs if shape), (1,))
            takes = DYNAMIC if shape[0] == -1 else shape[0]
            if takes != images:
                return Check(name, False, (f"images a call: {takes}, but {images} in the manifest",))
        count = 2 if images == DYNAMIC else images
        feed = {key: np.repeat(value, count, axis=0) for key, value in self.feed.items()}
        try:
            outputs = predict(select_inputs(feed, predict.input_names))
            places = self.decoder.decode(outputs, feed["scale_factor"], feed.get("pad_offset"))
        except UserError as error:
            return Check(name, False, (str(error),))
        labels = self.model.config.labels
        wrong = []
        for place, found in enumerate(places):
            where = "" if count == 1 else f"image {place + 1} of {count}: "
            lines = expectation.differences(self.expected, found, self.tolerance, labels)
            wrong += [where + line for line in lines]
        must = int((self.expected.scores >= self.tolerance.min_score).sum())
        each = "" if count == 1 else f" in each of {count} images a call"
        return Check(name, not wrong, tuple(wrong) or (f"{must} detections as expected{each}",))


def _on_the_sample(
    folder: Path, manifest: dict[str, Any], machine: Machine, known: Mapping[str, str]
) -> list[Check]:
    sample, crash = _Sample.read(folder, manifest), ""
    try:
        require_survives(sample.model)
    except UserError as error:
        crash = str(error)
    backends = [backend for backend in load_backends(known) if backend.check]
    files = files_in(folder, known)
    checks = [_on_backend(sample, backend, files, machine, crash) for backend in backends]
    return [*checks, *_compiled(sample, manifest.get("compiled", {}), machine)]


def _compiled(sample: _Sample, values: Any, machine: Machine) -> list[Check]:
    """The sample in the package's compiled network, on the emulator of its chip; nothing where it has none."""
    if not isinstance(values, dict) or "file" not in values:
        return []
    name = "compiled"
    try:
        facts = CompiledFacts.from_json(values, NAME)
        tool = verisilicon.find(machine)
    except ToolError as error:
        return [Check(name, None, (str(error),))]
    LOG.info("verify: the sample in %s, on VeriSilicon's emulator of %s", facts.file, facts.chip)
    try:
        with CompiledNetwork((sample.folder / facts.file).read_bytes(), facts, tool) as predict:
            return [sample.check(name, predict)]
    except ToolError as error:
        return [Check(name, False, (str(error),))]


def _on_backend(
    sample: _Sample, backend: Backend, files: Mapping[str, Path], machine: Machine, crash: str
) -> Check:
    """The sample on one backend: the package's file for it, or one made of the Paddle form.

    Args:
        sample: of the package.
        backend: which.
        files: of the package, see `files_in`.
        machine: what it may use.
        crash: what is said of a Paddle form on which Paddle's native code crashes; empty where it does not.
    """
    own = files.get(backend.family)
    # What rounds every tensor is looked at where it is what the package is for.
    if own is None and (backend.family in sample.needed or backend.scheme.every_tensor):
        return Check(backend.check, None, (f"the package has no {backend.file}",))
    if own is None and crash:
        if backend.export is None:  # it runs the Paddle form itself
            return Check(backend.check, False, (crash,))
        return Check(backend.check, None, ("not tried, as Paddle crashes on the model",))
    try:
        tool = backend.toolchain.find(machine, to_run=True)
    except ToolError as error:
        return Check(backend.check, None, (str(error),))
    LOG.info("verify: the sample in %s", backend.title)
    precision = "int8" if program_facts(sample.model.model).quantised else "fp32"
    model = Model(sample.folder.name, precision, sample.model.config, sample.model, files)
    try:
        with opened(model, backend, machine, tool=tool) as ready:
            images = sample.onnx_images if own is not None and own.name == ONNX else 1
            return sample.check(backend.check, ready.predict, images)
    except ToolError as error:
        # A tool that takes no such network (OpenVINO and NMS inside) says nothing of a package without a file for it.
        return Check(backend.check, None if own is None and backend.export else False, (str(error),))
    except UserError as error:
        return Check(backend.check, False, (str(error),))
