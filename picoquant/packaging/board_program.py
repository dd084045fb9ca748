"""The program for the board: its source as shipped in `packaging/board/`, and what it reads of a package."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from picoquant.errors import WeightsError
from picoquant.paddle_program.infer_config import InferConfig, padding_values
from picoquant.paddle_program.program import ProgramFacts
from picoquant.postprocess import Decoder
from picoquant.postprocess.decode import CELL_OFFSET
from picoquant.storage.files import write_json, write_text
from picoquant.targets.profiles import Target

SETTINGS, SCRIPT = "settings.json", "python"
_ANDROID = "android"  # folder in board/ of what only packages for Android have
INTERPOLATIONS = (0, 1, 2)  # nearest, linear, cubic: OpenCV's numbers of those that the program knows


@dataclass(frozen=True)
class Program:
    """How a package's two programs for a backend are run: `script/network_NAME.py` and `board/src/network_NAME.cpp`.

    Attributes:
        pip: what the Python one needs.
        cmake: options with which the C++ one is configured; empty: there is none.
        network: NAME, where it is not the backend's: two backends have the same programs.
    """

    pip: str
    cmake: str
    network: str = ""


# By the backend's name; a package for another one has files and no programs.
PROGRAMS = {
    "openvino": Program(
        "openvino numpy opencv-python", "-DUSE_OPENVINO=ON -DOpenVINO_DIR=/path/to/openvino/cmake"
    ),
    "ncnn": Program("ncnn numpy opencv-python", "-DUSE_NCNN=ON -Dncnn_DIR=/path/to/lib/cmake/ncnn"),
    "mnn": Program("MNN numpy opencv-python", ""),
    "tflite": Program("ai-edge-litert numpy opencv-python", "-DTFLITE_DIR=/usr"),
    "tflite-16x8": Program("ai-edge-litert numpy opencv-python", "-DTFLITE_DIR=/usr", "tflite"),
    "rknn": Program("rknn-toolkit-lite2 numpy opencv-python", "-DRKNN_DIR=/path/to/librknn_api"),
}

# What an NPU piece needs beside Paddle Lite's own library. Source: Paddle Lite, docs/demo_guides/
# verisilicon_timvx.md, the list of its libraries; libGAL … libovxlib are the vendor's driver in user space.
_NPU_LIBRARIES = {
    "verisilicon_timvx": (
        "libnnadapter.so",
        "libverisilicon_timvx.so",
        "libtim-vx.so",
        "libGAL.so",
        "libVSC.so",
        "libOpenVX.so",
        "libovxlib.so",
    )
}


def settings(
    config: InferConfig,
    facts: ProgramFacts,
    models: Sequence[tuple[str, str, str]],
    target: Target,
    partition: str = "",
    program: bool = True,
) -> dict[str, Any]:
    """The content of `settings.json`: the same facts as `preprocess.yml`, as the program needs them.

    Args:
        config: of the model.
        facts: its inputs and outputs.
        models: precision, name and SHA-256 of each model in the package that the program runs, the usual one first;
            the hash names its cache.
        target: says which device.
        partition: name of the partition file in the package; empty: there is none.
        program: whether the C++ program reads it, which knows some interpolations only.

    Raises: `WeightsError` when the C++ program cannot prepare images as the model needs it.
    """
    if program and config.interp not in INTERPOLATIONS:
        raise WeightsError(
            f"the model's images are resized with interpolation {config.interp}, which the board's program does "
            "not know: export with interp 0 (nearest), 1 (linear) or 2 (cubic); LetterBoxResize (3) is "
            "Resize: {keep_ratio: true, interp: 1} and Pad: {pad_mode: 1, fill_value: 128} with both its size"
        )
    decoder = Decoder.of(*zip(*facts.outputs), config)
    return {
        "models": [dict(zip(("precision", "file", "sha256"), model)) for model in models],
        "device": target.paddle_lite.device if target.paddle_lite else "",
        "context_properties": "",
        "partition": partition,
        "inputs": [name for name, _ in facts.inputs],
        "size": list(config.input_size),
        "keep_ratio": config.keep_ratio,
        "padding": config.padding,
        "fill": list(padding_values(config)),
        "interpolation": config.interp,
        "is_scale": config.is_scale,
        "mean": list(config.mean),
        "std": list(config.std),
        "outputs": decoder.kind,
        "class_outputs": decoder.raw_outputs,
        "strides": list(config.strides),
        "cell_offset": CELL_OFFSET,
        "nms": {
            "score_threshold": config.nms.score_threshold,
            "nms_threshold": config.nms.nms_threshold,
            "nms_top_k": config.nms.nms_top_k,
            "keep_top_k": config.nms.keep_top_k,
        },
        "labels": list(config.labels),
    }


def copy_program(folder: Path, android: bool = False) -> None:
    """Put the program's source, its CMake files and `run.sh` into a folder `board/` of a package.

    Args:
        folder: where to.
        android: with `run_android.sh`, and the NDK's CMake file in place of those of Debian's compilers.
    """
    source = Path(__file__).parent / "board"
    for path in sorted(source.rglob("*")):
        relative = path.relative_to(source)
        if not path.is_file() or {"build", "__pycache__"} & set(relative.parts):
            continue
        androids = relative.parts[0] == _ANDROID
        if androids != android and (androids or path.suffix == ".cmake"):
            continue
        place = folder / path.name if androids else folder / relative
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, place)
        if path.suffix == ".sh":
            place.chmod(0o755)


def write_board(folder: Path, target: Target, values: dict[str, Any]) -> None:
    """Write the program and `settings.json` into a package.

    Args:
        folder: the package, which holds the model already.
        target: what `run.sh` checks for.
        values: see `settings`.
    """
    copy_program(folder / "board", target.android)
    write_json(folder / SETTINGS, values)
    native = [model["precision"] for model in values["models"] if model["file"].endswith(".nb")]
    write_text(folder / "board" / "target.sh", _target_shell(target, native == ["compiled"]))


def write_script(folder: Path, backend: str) -> None:
    """Put the Python program for a backend's runtime into a folder of a package: `detect.py` and `network.py`."""
    source = Path(__file__).parent / "script"
    folder.mkdir()
    network = f"network_{PROGRAMS[backend].network or backend}.py"
    for name, copy in (("detect.py", "detect.py"), (network, "network.py")):
        shutil.copyfile(source / name, folder / copy)


def _target_shell(target: Target, compiled: bool) -> str:
    """What `run.sh` reads; `compiled`: Paddle Lite has no model in the package, the compiled network is its own."""
    values = {
        "TARGET_NAME": target.name,
        "TARGET_ABI": target.abi,
        "TARGET_DRIVER": target.driver.name,
        "TARGET_DRIVER_VERSION": target.driver.version,
        "TARGET_LIBRARIES": "",  # the runtime's are where the system finds them
        "TARGET_LIBRARIES_FROM": "",
    }
    if compiled:
        values["COMPILED"] = "1"
    elif target.paddle_lite is not None:
        cpp = ("libc++_shared.so",) if target.android else ()
        npu = _NPU_LIBRARIES.get(target.paddle_lite.device, ())
        libraries = ("libpaddle_light_api_shared.so", *cpp, *npu)
        place = f", folder {target.driver.library_folder}" if target.driver.library_folder else ""
        system = "Android, " if target.android else ""
        values["TARGET_LIBRARIES"] = " ".join(libraries)
        values["TARGET_LIBRARIES_FROM"] = (
            f"Paddle Lite {target.paddle_lite.opt_version} for {system}{target.abi}{place}"
        )
    lines = "".join(f"{key}={quoted(text)}\n" for key, text in values.items())
    return f"# What run.sh checks on the board, from the profile of {target.name}.\n{lines}"


def quoted(text: str) -> str:
    """A text as one word of a shell."""
    return "'" + text.replace("'", "'\\''") + "'"
