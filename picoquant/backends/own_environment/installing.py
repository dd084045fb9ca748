"""What holds for every tool that picoquant fetches for the user: terms, machine, folder, and whole or nothing."""

from __future__ import annotations

import hashlib
import logging
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from picoquant.backends.interpreters import is_half_made, last_line
from picoquant.errors import ToolError
from picoquant.storage.files import disk_errors
from picoquant.utils.subprocesses import run_program

LOG = logging.getLogger("picoquant")

COMPLETE = "picoquant.json"  # written last: a folder without it is half made
_QUIET = ("--no-input", "--disable-pip-version-check", "--progress-bar=off")


@dataclass(frozen=True)
class Terms:
    """What must be so before anything is fetched.

    Attributes:
        tool: what is for one kind of machine, as a sentence begins: `VeriSilicon's emulator`.
        licence: whose it is and what who installs it agrees to.
        instead: what to do on another machine.
        accept: whether the user must say that he accepts the licence.
    """

    tool: str
    licence: str
    instead: str
    accept: bool = True


@contextmanager
def installing(
    home: Path, terms: Terms, accepted: bool, is_leftover: Callable[[Path], bool] = is_half_made
) -> Iterator[None]:
    """Fill a folder in the block: it is not there before, and not there after an error.

    Args:
        home: the folder.
        terms: see `Terms`.
        accepted: whether the user accepts the licence.
        is_leftover: whether a folder that is not complete is what a killed installation left.

    Raises: `ToolError` when the licence is not accepted, on another machine than 64-bit x86 Linux, and when the folder
        holds something else.
    """
    if terms.accept and not accepted:
        raise ToolError(f"{terms.licence}: if you accept that, add --accept-licence")
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise ToolError(
            f"{terms.tool} is for Linux on 64-bit x86, this is {platform.system()} {platform.machine()}: "
            f"{terms.instead}"
        )
    if home.exists() and any(home.iterdir()) and not is_leftover(home):
        raise ToolError(f"{home} holds something else; name an empty folder")
    LOG.info("%s", terms.licence)
    with disk_errors(home):
        shutil.rmtree(home, ignore_errors=True)
        home.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield
        except BaseException:
            shutil.rmtree(home, ignore_errors=True)
            raise


@contextmanager
def fetched_wheel(
    python: Path, requirement: str, digest: str, command: str, beside: Path, options: Sequence[str] = ()
) -> Iterator[Path]:
    """A wheel from the user's package index, for as long as the block lasts.

    Args:
        python: whose pip fetches it.
        requirement: `name==version`.
        digest: its SHA-256.
        command: with which the user tries again, for messages.
        beside: a folder on whose disk there is room.
        options: of pip, for a wheel of another Python.

    Raises: `ToolError` when pip cannot fetch it, and for another file.
    """
    with tempfile.TemporaryDirectory(dir=beside, prefix="wheel-") as scratch:
        fetch = [str(python), "-m", "pip", "download", *_QUIET, "--no-deps", "--only-binary=:all:"]
        outcome = run_program([*fetch, "--dest", scratch, *options, requirement], timeout=1800, title="pip")
        wheels = list(Path(scratch).glob("*.whl"))
        if outcome.code or len(wheels) != 1:
            raise ToolError(
                f"pip could not fetch {requirement}: {last_line(outcome.text)}; check the network or pip's index, "
                f"then run `{command}` again"
            )
        if _sha256(wheels[0]) != digest:
            raise ToolError(f"{wheels[0].name} is not the file that picoquant knows: its SHA-256 is another")
        yield wheels[0]


def pip_install(python: Path, what: Sequence[str], requirement: str, command: str) -> None:
    """Install into the environment of a Python.

    Args:
        python: the environment's.
        what: arguments of `pip install`.
        requirement: whose need it is, for messages.
        command: with which the user tries again, for messages.

    Raises: `ToolError` when pip cannot.
    """
    install = [str(python), "-m", "pip", "install", *_QUIET, "--no-cache-dir", *what]
    outcome = run_program(install, timeout=7200, title="pip")
    if outcome.code:
        raise ToolError(
            f"pip could not install what {requirement} needs: {last_line(outcome.text)}; check the network or pip's "
            f"index, then run `{command}` again"
        )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while part := stream.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
