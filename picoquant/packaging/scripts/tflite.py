"""The `.tflite` in a package: its program in Python, and what the README says of both."""

from __future__ import annotations

import shutil
from pathlib import Path

from picoquant.backends.ethos_u import BACKENDS as ETHOS_U
from picoquant.backends.tflite import BACKENDS as TFLITE
from picoquant.packaging.forms import Forms
from picoquant.targets.profiles import Target

SCRIPT = "detect_tflite.py"


def holds_tflite(forms: Forms) -> bool:
    """Whether a package holds the `.tflite` that the program runs."""
    return TFLITE[0].name in [backend.name for backend in forms.backends]


def write_script(folder: Path) -> None:
    """Put the program into a package."""
    shutil.copyfile(Path(__file__).with_name(SCRIPT), folder / SCRIPT)


def readme_rows(target: Target, forms: Forms) -> list[str]:
    """Rows of the README's table of files."""
    names = [backend.name for backend in forms.backends]
    rows = []
    if TFLITE[0].name in names:
        rows.append(
            f"| `{TFLITE[0].file}` | full-integer TensorFlow Lite, int8: what LiteRT and its delegates take |"
        )
    if ETHOS_U[0].name in names and target.ethos_u is not None:
        rows.append(f"| `{ETHOS_U[0].file}` | the same compiled by Vela for {target.ethos_u.accelerator} |")
    if TFLITE[0].name in names:
        rows.append(
            f"| `{SCRIPT}`, `settings.json` | a program in Python that runs it with LiteRT; its settings |"
        )
    return rows


def readme_text(target: Target, forms: Forms) -> str:
    """The README's section on running the `.tflite`; empty where the package holds none."""
    if not holds_tflite(forms):
        return ""
    text = (
        "\n## With LiteRT\n\n"
        f"    python3 {SCRIPT}\n\n"
        "runs the sample on the CPU and ends with exit code 0 when the detections are as expected; with an image's "
        "path it prints what is in that. It needs numpy, OpenCV and LiteRT (`pip install ai-edge-litert`) and nothing "
        "of picoquant.\n"
    )
    compiled = ETHOS_U[0].file if ETHOS_U[0].name in [backend.name for backend in forms.backends] else ""
    if target.tflite_delegate:
        model = compiled or TFLITE[0].file
        text += (
            f"\nOn the NPU of {target.name}, by the delegate of the board's own image:\n\n"
            f"    python3 {SCRIPT} --model {model} --delegate {target.tflite_delegate}\n"
            f"    benchmark_model --graph={model} --external_delegate_path={target.tflite_delegate}\n\n"
            "**The delegate was not run**: no board was at hand.\n"
        )
    elif compiled:
        text += (
            f"\n`{compiled}` is for the NPU, in TensorFlow Lite (Micro) with the kernel or delegate for Ethos-U: it "
            "runs on no CPU. It was compiled here and not run: no board was at hand.\n"
        )
    return text
