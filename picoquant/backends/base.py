"""What a backend is: a toolchain that makes files of a model, runs them here, or says what a board would do with them.

A backend is a folder with up to four files, its faces, which have these names everywhere:

| file | what it has | see |
|---|---|---|
| `toolchain.py` | finds the tool, says what to do when it is absent | `Toolchain` |
| `export.py` | makes the tool's files of a model | `Export` |
| `runtime.py` | opens such files, for `predict(feed)` | `Runtime` |
| `report.py` | what the tool itself says of a model on a board | `Report` |

A backend has the faces whose files are there. Importing this module or a backend's folder loads nothing heavy; a face
is imported when it is first used.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from picoquant.backends.scheme import Scheme
from picoquant.backends.table import BACKENDS

if TYPE_CHECKING:
    import numpy as np

    from picoquant.backends.placement import BoardReport
    from picoquant.backends.source import Source
    from picoquant.targets.profiles import Target

Tensors = tuple[tuple[str, tuple[int, ...]], ...]  # names and shapes, in order; -1 for a size that may vary


@dataclass(frozen=True)
class Machine:
    """What of this machine a backend may use.

    Attributes:
        threads: CPU threads; 0 for all this process may use. Not every runtime takes a number.
        device: `cpu`, `gpu` or `gpu:N`; a GPU is for `paddle` and `dygraph` alone.
        opt: path of Paddle Lite's opt, or None to look for it.
        without: libraries that a runtime could compute with and must not, for example `onednn`.
    """

    threads: int = 0
    device: str = "cpu"
    opt: str | None = None
    without: frozenset[str] = frozenset()


MACHINE = Machine()


class Found(Protocol):
    """A tool that was found.

    Attributes:
        version: as the tool says it.
        path: the program, or the folder of the Python package.
        origin: how it was found.
    """

    version: str
    path: Path
    origin: str


@dataclass(frozen=True)
class Exported:
    """Files that a runtime opens.

    Attributes:
        files: the first is the one that is opened, the others belong to it.
        inputs, outputs: of the network, in the order of the model they were made from; empty where the files
            themselves say it.
        source: the model they were made from; None for files that somebody else made.
        note: what must be known of numbers that they give; empty for nothing.
    """

    files: tuple[Path, ...]
    inputs: Tensors = ()
    outputs: Tensors = ()
    source: Source | None = None
    note: str = ""

    @property
    def bytes(self) -> int:
        """Size of the files."""
        return sum(file.stat().st_size for file in self.files)


class Predictor(Protocol):
    """A model that is ready to be called.

    One that runs in another process, where handing values over takes long, has `network_seconds`, too: how long the
    network itself took in the last call.

    Attributes:
        input_names: what a feed must hold.
        outputs: names and shapes of the results.
    """

    input_names: tuple[str, ...]
    outputs: Tensors

    def __call__(self, feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run a batch of any size.

        Raises: `ToolError` or `WeightsError` with the runtime's own word when it refuses it.
        """


class Toolchain(Protocol):
    """`toolchain.py`.

    One that picoquant can install has `install()`, too, which returns a line saying what is ready and where. One that
    nothing but its own backend needs says `OPTIONAL = True`, where it is no pip package of this environment.

    Attributes:
        TITLE: what people call the tool.
        DISTRIBUTIONS: the pip packages that bring it, any of them; empty where it is none of this environment.
    """

    TITLE: str
    DISTRIBUTIONS: tuple[str, ...]

    def find(self, machine: Machine, to_run: bool = False) -> Found:
        """The tool.

        Args:
            machine: names it where the user has.
            to_run: it must run models here, not only make files.

        Raises: `ToolError` saying what to do when it is absent or does not work.
        """


class Export(Protocol):
    """`export.py`. Settings of its own may follow as keywords with defaults, for example half precision."""

    def export(self, source: Source, out: Path, tool: Found, target: Target | None = None) -> Exported:
        """Make the tool's files of a model.

        Args:
            source: INT8 or float; its `scheme` and precision are among the backend's.
            out: where they go, without a suffix: the files get the tool's own.
            tool: what `find` returned.
            target: the board; None: this machine, for the backend's own runtime.

        Raises: `ToolError` with the tool's own word when it refuses the model.
        """


class Runtime(Protocol):
    """`runtime.py`."""

    def open_files(self, made: Exported, tool: Found, machine: Machine) -> AbstractContextManager[Predictor]:
        """Load files for as long as the block lasts.

        Args:
            made: what `export` returned; of a backend without `export.py` the Paddle model itself.
            tool: what `find(machine, to_run=True)` returned.
            machine: threads, device.

        Raises: `ToolError` or `WeightsError` with the runtime's own word when it refuses them; some refuse a file only
            when it is called.
        """


class Report(Protocol):
    """`report.py`. Settings of its own may follow as keywords with defaults."""

    def report(self, source: Source, tool: Found, target: Target) -> BoardReport:
        """What the tool itself says of a model on a board.

        Args:
            source: INT8 or float.
            tool: what `find` returned.
            target: the board.

        Raises: `ToolError` with the tool's own word when it refuses the model.
        """


@dataclass(frozen=True)
class Backend:
    """One way to run a model: a toolchain, or a variant of one.

    Attributes:
        name: what `--backend` and results call it.
        title: the runtime, for people.
        folder: module path of the folder with its faces.
        precisions: of the models it takes: `fp32`, `int8`.
        scheme: which INT8 networks its files can hold; of no meaning without `export.py`.
        integers: whether it computes INT8 models in their integers; otherwise their weights in float.
        parity: least signal to noise of an INT8 model's raw outputs against the reference's, dB; its test holds it to
            this. A runtime that rounds elsewhere declares less, with its reason beside it.
        suffixes: of the files that it makes, the one that is opened first; empty: it runs Paddle models as they are.
        file: name of the INT8 model among the files of a package; empty: no package holds one. The others of
            `suffixes` stand beside it.
        takes_threads: whether it takes a number of CPU threads.
        variant_of: name of the backend that it is a variant of, with the same files; empty: it is none.
        without: libraries that a variant must not use, see `Machine`.
        settings: keywords of its `export`, for files of another kind than the toolchain's usual ones.
        step, step_says: name and description of its step in the parity ladder, `{made}` stands for where the file comes
            from; empty: it has none.
        check: name of its check in the verification of a package; empty: it has none.
    """

    name: str
    title: str
    folder: str
    precisions: tuple[str, ...] = ("fp32", "int8")
    scheme: Scheme = Scheme()
    integers: bool = True
    parity: float = 80.0
    suffixes: tuple[str, ...] = ()
    file: str = ""
    takes_threads: bool = True
    variant_of: str = ""
    without: frozenset[str] = frozenset()
    settings: Mapping[str, Any] = field(default_factory=dict, hash=False)
    step: str = ""
    step_says: str = ""
    check: str = ""

    @property
    def toolchain(self) -> Toolchain:
        """Its `toolchain.py`, which every backend has."""
        return importlib.import_module(f"{self.folder}.toolchain")

    @property
    def export(self) -> Export | None:
        """Its `export.py`; None for one that runs Paddle models as they are."""
        return self._face("export")

    @property
    def runtime(self) -> Runtime | None:
        """Its `runtime.py`; None for one that runs nothing here."""
        return self._face("runtime")

    @property
    def report(self) -> Report | None:
        """Its `report.py`; None for one whose tool says nothing of boards."""
        return self._face("report")

    def make(self, source: Source, out: Path, tool: Found, target: Target | None = None) -> Exported:
        """Make its files of a model, see `Export.export`.

        Raises: as that.
        """
        assert self.export is not None  # asked of those that have one
        return self.export.export(source, out, tool, target, **self.settings)

    @property
    def family(self) -> str:
        """The name that it shares with its variants."""
        return self.variant_of or self.name

    def on(self, machine: Machine) -> Machine:
        """What it may use of a machine."""
        return replace(machine, without=machine.without | self.without)

    def files_beside(self, path: Path) -> tuple[Path, ...]:
        """A file that it opens, with those that belong to it."""
        return (path, *(path.with_suffix(suffix) for suffix in self.suffixes[1:]))

    def _face(self, name: str) -> Any:
        module = f"{self.folder}.{name}"
        return importlib.import_module(module) if importlib.util.find_spec(module) else None


def load_backend(name: str, known: Mapping[str, str] = BACKENDS) -> Backend:
    """A backend's description.

    Args:
        name: a key of `known`.
        known: the backends.
    """
    return next(one for one in importlib.import_module(known[name]).BACKENDS if one.name == name)


def load_backends(known: Mapping[str, str] = BACKENDS) -> list[Backend]:
    """The descriptions of all, in order."""
    return [load_backend(name, known) for name in known]
