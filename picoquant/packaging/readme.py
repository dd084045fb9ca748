"""`README.md` of a package: what is in it and how to run it, in a few lines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from picoquant.backends.base import Backend
from picoquant.packaging.board_program import PROGRAMS
from picoquant.packaging.forms import ONNX, PLAIN_ONNX, Forms
from picoquant.targets.profiles import Target
from picoquant.utils.batching import DYNAMIC, Batch

_TOOLCHAINS = {"armhf": "armhf.cmake", "arm64": "arm64.cmake"}


def readme(
    target: Target,
    forms: Forms,
    int8: bool,
    partition: str = "",
    rknn: bool = False,
    nb: Mapping[str, str] | None = None,
    batch: Batch = 1,
    qdq: str = "",
    compiled: Mapping[str, Any] | None = None,
) -> str:
    """The text for a package.

    Args:
        target, forms: what it is for and what it holds.
        int8: whether it is of an INT8 model.
        partition: name of its partition file; empty: it has none.
        rknn: whether it has the route for Rockchip's own toolkit.
        nb: its `.nb`: precision -> file, the usual one first.
        batch: images a call of its ONNX files without NMS.
        qdq: integers of its plain ONNX; empty: it has none.
        compiled: what the manifest says of its compiled network; empty: it has none.
    """
    nb, compiled = nb or {}, compiled if compiled and "file" in compiled else None
    board = forms.lite or compiled is not None
    rows = [
        f"| `{name}` | {precision.upper()}, for Paddle Lite {target.paddle_lite.opt_version} on the "
        f"{'NPU' if forms.npu_nb else 'CPU'} |"
        for precision, name in nb.items()
    ]
    if compiled:
        rows.append(f"| `{compiled['file']}` | INT8, compiled for {compiled['chip']} |")
    if int8:
        rows.append(f"| `{ONNX}` | INT8 ONNX with QuantizeLinear and DequantizeLinear{_images(batch)} |")
        if qdq:
            rows.append(
                f"| `{PLAIN_ONNX}` | the same network for other compilers: QuantizeLinear and DequantizeLinear on "
                f"every tensor, {qdq} activations, opset 13{_images(batch)} |"
            )
        alone = "" if batch == 1 else "; the latter, whose NMS is for one image, takes one"
        rows.append(
            f"| `model_int8_boxes.onnx`, `model_int8_detections.onnx` | the same with post-processing{alone} |"
        )
    rows += [
        f"| `paddle/` | the {'INT8' if int8 else 'FP32'} Paddle model |",
        "| `labels.txt`, `preprocess.yml` | class names; how inputs are made and outputs are read |",
        "| `sample/` | an image, as PNG and as PPM, and the detections expected in it |",
        "| `manifest.json` | SHA-256 of every file, versions, settings, mAP, check |",
    ]
    if board or any(PROGRAMS[backend.name].cmake for backend in forms.with_programs):
        rows.append(
            "| `board/`, `settings.json`, `environment.sh` | the program for the board and its settings |"
        )
    elif forms.with_programs:
        rows.append("| `settings.json` | the settings of the program in Python |")
    if forms.with_programs:
        rows.append("| `python/` | a Python script that detects in images, without picoquant |")
    if rknn:
        rows.append(
            "| `rknn/` | for Rockchip's own toolkit, rknn-toolkit 1.x: the float network, see its README |"
        )
    if partition:
        rows.append(
            f"| `{partition}` | operators kept on the CPU, so that the NPU's pieces are fewer; the `.nb` was made "
            "with it |"
        )
    rows += [
        f"| {', '.join(f'`{file}`' for file in names)} | INT8 for {backend.title} |"
        for backend in forms.backends
        if (names := [path.name for path in backend.files_beside(Path(backend.file))])
    ]
    npu = "no NPU" if target.npu == "none" else target.npu
    text = f"# Package for {target.name}\n\n{target.vendor} {target.soc}: {target.cpu}; {npu}.\n\n"
    text += "| file | what it is |\n|---|---|\n" + "\n".join(rows) + "\n"
    text += "".join(_programs(backend, board) for backend in forms.with_programs)
    text += _delegate(target, forms) + _rknpu(target, forms) + _without_programs(target, forms)
    text += _on_the_board(target, forms, list(nb)) if forms.lite else ""
    return text + (_compiled(target, compiled, forms.npu_nb) if compiled else "")


def _programs(backend: Backend, lite: bool) -> str:
    """How to run the programs for a backend's runtime; `lite`: it is beside those that `run.sh` is for."""
    program = PROGRAMS[backend.name]
    alone = f"build/detect --package .. --model {backend.name} --expected ../sample/expected.json"
    source = f"       {alone.partition(' --expected')[0] if lite else './run.sh'}"
    sample = f"       {alone}\n" if lite else "       ./run.sh                             # the sample\n"
    in_cpp = (
        "C++:\n\n"
        "       cd board\n"
        f"       cmake -S . -B build {program.cmake}\n"
        "       cmake --build build\n"
        f"{sample}"
        f"{source} --source /dev/video0 --draw /dev/fb0\n\n"
        "`--source` also takes a folder of images or a video (Y4M, AVI of Motion JPEG), `--draw` writes images or a "
        "video; a line of JSON a frame, the last one with the frame rate.\n\n"
    )
    return (
        f"\n## In {backend.title}\n\n"
        f"Python (`pip install {program.pip}`), the sample or an image of yours:\n\n"
        f"       python python/detect.py [IMAGE]\n\n{in_cpp if program.cmake else ''}"
        f"Without an image {'both run' if program.cmake else 'it runs'} the sample and "
        f"{'end' if program.cmake else 'ends'} with exit code 0 when the detections are as expected, 1 when not.\n"
    )


def _delegate(target: Target, forms: Forms) -> str:
    """How the `.tflite` is run on the board's NPU; empty where the package holds none."""
    files = {backend.name: backend.file for backend in forms.backends}
    if "tflite" not in files:
        return ""
    model = files.get("ethos-u", files["tflite"])
    if target.tflite_delegate:
        name = "ethos-u" if "ethos-u" in files else "tflite"
        return (
            f"\n## On the NPU of {target.name}, by TensorFlow Lite's delegate\n\n"
            f"       TFLITE_MODEL={model} TFLITE_DELEGATE={target.tflite_delegate} python python/detect.py\n"
            f"       TFLITE_DELEGATE={target.tflite_delegate} board/build/detect --package . --model {name} "
            "--expected sample/expected.json\n"
            f"       benchmark_model --graph={model} --external_delegate_path={target.tflite_delegate}\n\n"
            "The delegate's library is part of the board's image. **It was not run**: no board was at hand.\n"
        )
    if "ethos-u" not in files:
        return ""
    return (
        f"\n`{model}` is for the NPU, in TensorFlow Lite (Micro) with the kernel or delegate for Ethos-U: it runs on "
        "no CPU. It was compiled here and not run: no board was at hand.\n"
    )


def _rknpu(target: Target, forms: Forms) -> str:
    """What must be known of an `.rknn`; empty where the package holds none."""
    backend = next((backend for backend in forms.backends if backend.name == "rknn"), None)
    if backend is None:
        return ""
    model, form = (path.name for path in backend.files_beside(Path(backend.file)))
    text = (
        f"\n## On the NPU of {target.name}\n\n"
        f"`{model}` is built for {target.soc} alone, with the network's own scales, by the rknn-toolkit2 that "
        f"`manifest.json` names: librknnrt on the board must not be older. `{form}` is what it was built from, to "
        "build it again or to simulate it; its scales are written for that toolkit and mean something else to others. "
        "The outputs are maps `[1, C, H, W]`, which both programs bring to `[1, H * W, C]`. The programs run on the "
        "board, not on a PC. **None of this was run on a board**, and the C++ program was never linked with Rockchip's "
        "library.\n"
    )
    if target.abi == "armhf":
        text += (
            f"\n{target.soc} has the zero-copy interface alone (librknnmrt): configure the C++ program with "
            "`-DRKNN_ZERO_COPY=ON`. rknn-toolkit-lite2, which the Python script needs, is not made for it.\n"
        )
    return text


# What runs a backend's file on a board, where the package has no program for it.
_RUNTIMES = {
    "tpu-mlir": (
        "Sophgo's cviruntime (`CVI_NN_RegisterModel`), which is part of the board's SDK. It takes the image as float "
        "`[1, 3, H, W]` and gives the outputs as float, `[1, cells, C, 1]`"
    ),
    "esp-ppq": (
        "Espressif's ESP-DL (`dl::Model`). Its scales are powers of two, not the network's own; `{form}` is what it "
        "was built from"
    ),
}


def _without_programs(target: Target, forms: Forms) -> str:
    """What must be known of the files of a board that the package has no program for; empty where it has."""
    text = ""
    for backend in forms.backends:
        if backend.name in _RUNTIMES:
            file, *beside = (path.name for path in backend.files_beside(Path(backend.file)))
            runtime = _RUNTIMES[backend.name].replace("{form}", ", ".join(beside))
            text += (
                f"\n## On {target.soc}\n\n`{file}` is for {runtime}. `preprocess.yml` says how inputs are made and "
                "outputs are read, `sample/` has an image and what is to be found in it. **It was not run on a "
                "board**, and the package holds no program for it.\n"
            )
    return text


def _compiled(target: Target, compiled: Mapping[str, Any], beside: bool) -> str:
    """How the compiled network is run; `beside`: there is a `.nb` for Paddle Lite, too."""
    toolchain = _TOOLCHAINS.get(target.abi)
    crossed = f" -DCMAKE_TOOLCHAIN_FILE={toolchain}" if toolchain else ""
    return (
        f"\n## The compiled network\n\n"
        f"`{compiled['file']}` is the network as VeriSilicon's driver of acuitylite {compiled['emulator']} compiles "
        f"it for {compiled['chip']}: the board's driver runs it as it is, without Paddle Lite and without a first run "
        "that compiles. The program needs the headers and libOpenVX.so of the board's own driver (its SDK):\n\n"
        "       cd board\n"
        f"       cmake -S . -B build -DOPENVX_DIR=/path/to/sdk{crossed}\n"
        "       cmake --build build\n"
        f"       {'COMPILED=1 ' if beside else ''}./run.sh\n\n"
        f"It was compiled by a newer driver than the boards of {target.name} usually have ({target.driver.name} "
        f"{target.driver.version}). **Whether an older one opens it was not tried**: no board was at hand. Its outputs "
        "are maps `[1, C, H, W]`, which the program brings to `[1, H * W, C]`.\n"
        + (
            ""
            if beside
            else "There is no `.nb` beside it: the network has zero points, Paddle Lite's format has none.\n"
        )
    )


def _images(batch: Batch) -> str:
    if batch == 1:
        return ""
    return ", any number of images a call" if batch == DYNAMIC else f", {batch} images a call"


def _on_the_board(target: Target, forms: Forms, precisions: list[str]) -> str:
    if target.android:
        return _on_android(target, forms)
    toolchain = _TOOLCHAINS.get(target.abi)
    checked = "CPU, libraries and driver" if forms.npu_nb else "CPU and libraries"
    crossed = f" -DCMAKE_TOOLCHAIN_FILE={toolchain}" if toolchain else ""
    text = (
        "\n## On the board\n\n"
        f"1. Get Paddle Lite's C++ library, {target.paddle_lite.opt_version} for {target.abi}"
        + (" with NNAdapter" if forms.npu_nb else "")
        + ": it must be of the version of opt in `manifest.json`.\n"
        "2. Build the program, on the board or with a cross compiler whose C library is not newer than the "
        "board's:\n\n"
        "       cd board\n"
        f"       cmake -S . -B build -DPADDLE_LITE_DIR=/path/to/cxx{crossed}\n"
        "       cmake --build build\n\n"
        "3. Copy the package to the board, put the libraries into `board/lib/`, and run `board/run.sh`. It checks "
        f"{checked}, runs the sample, prints detections and times as JSON, and ends with exit "
        "code 0 when the detections are as expected, 1 when not, 2 when something is missing.\n"
    )
    if forms.npu_nb:
        text += (
            f"\nThe NPU's kernel driver must be {target.driver.name} {target.driver.version}. The first run "
            "compiles the network for the NPU, which may take more than a minute; the result is kept in "
            "`board/cache/`. The `.nb`'s outputs are maps `[1, C, H, W]` where the Paddle model's are `[1, H * W, C]`, "
            "but with a partition file, or batch-norms in the model; the program takes both.\n"
        )
    if len(precisions) > 1:
        others = " or ".join(f"`--model {precision}`" for precision in precisions[1:])
        text += f"\n`board/run.sh` runs the {precisions[0].upper()} model, with {others} another one.\n"
    return text + _LIVE + "\nNone of this was tried on a board: see docs/package.md of picoquant.\n"


def _on_android(target: Target, forms: Forms) -> str:
    """How to build the program for Android, and to run it by adb."""
    abi = "" if target.abi == "armeabi-v7a" else f" -DANDROID_ABI={target.abi}"
    text = (
        "\n## On the board, from the computer that it hangs on\n\n"
        f"1. Get Paddle Lite's C++ library, {target.paddle_lite.opt_version} for Android, {target.abi}, clang, "
        "c++_shared"
        + (", with NNAdapter" if forms.npu_nb else "")
        + ": it must be of the version of opt in `manifest.json`. Put its libraries, `libc++_shared.so` and those of "
        "the NPU that the board's system does not have into `board/lib/`.\n"
        "2. Build the program with Google's NDK:\n\n"
        "       cd board\n"
        "       export ANDROID_NDK=/path/to/ndk\n"
        "       cmake -S . -B build -DPADDLE_LITE_DIR=/path/to/cxx -DCMAKE_TOOLCHAIN_FILE=android.cmake"
        f"{abi}\n"
        "       cmake --build build\n\n"
        "3. `board/run_android.sh` pushes what is needed by adb to `/data/local/tmp/picoquant/"
        f"{target.name}`, checks CPU, libraries and driver there, runs the sample with the variables of "
        "`environment.sh`, prints detections and times as JSON, and ends with exit code 0 when the detections are as "
        "expected, 1 when not, 2 when something is missing. Options of the program may follow: files named by "
        "`--image` and `--source` are pushed, too, what `--draw` names comes back:\n\n"
        "       board/run_android.sh --source clip.y4m --draw drawn.y4m\n\n"
        "`ANDROID_SERIAL` chooses the board where several hang on the computer.\n"
    )
    if target.on_npu:
        text += (
            f"\nThe NPU's kernel driver must be {target.driver.name} {target.driver.version}. The first run compiles "
            "the network for the NPU, which may take more than a minute; the result is kept on the board.\n"
        )
    return text + (
        "\n**Not tried**: any Android board, adb itself (a stand-in took its place), and the NDK, which was not at "
        "hand: the program was compiled by Debian's compilers for the same CPUs.\n"
    )


_LIVE = (
    "\nLive: `board/run.sh --source /dev/video0 --draw /dev/fb0` shows what a camera sees with the boxes on the "
    "screen; `--source` takes folders of images and videos (Y4M, AVI of Motion JPEG), too, `--draw` writes images and "
    "videos. A line of JSON a frame, the last one with the frame rate; `board/build/detect --help` has all options.\n"
)
