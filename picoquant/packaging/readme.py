"""`README.md` of a package: what is in it and how to run it, in a few lines."""

from __future__ import annotations

from collections.abc import Mapping

from picoquant.packaging.forms import ONNX, Forms
from picoquant.packaging.scripts import tflite
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
) -> str:
    """The text for a package.

    Args:
        target, forms: what it is for and what it holds.
        int8: whether it is of an INT8 model.
        partition: name of its partition file; empty: it has none.
        rknn: whether it has the route for Rockchip's own toolkit.
        nb: its `.nb`: precision -> file, the usual one first.
        batch: images a call of its ONNX files without NMS.
    """
    nb = nb or {}
    rows = [
        f"| `{name}` | {precision.upper()}, for Paddle Lite {target.paddle_lite.opt_version} on the "
        f"{'NPU' if forms.npu_nb else 'CPU'} |"
        for precision, name in nb.items()
    ]
    if int8:
        rows.append(f"| `{ONNX}` | INT8 ONNX with QuantizeLinear and DequantizeLinear{_images(batch)} |")
        alone = "" if batch == 1 else "; the latter, whose NMS is for one image, takes one"
        rows.append(
            f"| `model_int8_boxes.onnx`, `model_int8_detections.onnx` | the same with post-processing{alone} |"
        )
    rows += tflite.readme_rows(target, forms)
    rows += [
        f"| `paddle/` | the {'INT8' if int8 else 'FP32'} Paddle model |",
        "| `labels.txt`, `preprocess.yml` | class names; how inputs are made and outputs are read |",
        "| `sample/` | an image, as PNG and as PPM, and the detections expected in it |",
        "| `manifest.json` | SHA-256 of every file, versions, settings, mAP, check |",
    ]
    if forms.lite:
        rows.append(
            "| `board/`, `settings.json`, `environment.sh` | the program for the board and its settings |"
        )
    if rknn:
        rows.append(
            "| `rknn/` | for Rockchip's own toolkit, rknn-toolkit 1.x: the float network, see its README |"
        )
    if partition:
        rows.append(
            f"| `{partition}` | operators kept on the CPU, so that the NPU's pieces are fewer; the `.nb` was made "
            "with it |"
        )
    npu = "no NPU" if target.npu == "none" else target.npu
    text = f"# Package for {target.name}\n\n{target.vendor} {target.soc}: {target.cpu}; {npu}.\n\n"
    text += "| file | what it is |\n|---|---|\n" + "\n".join(rows) + "\n"
    text += _on_the_board(target, forms, list(nb)) if forms.lite else ""
    return text + tflite.readme_text(target, forms)


def _images(batch: Batch) -> str:
    if batch == 1:
        return ""
    return ", any number of images a call" if batch == DYNAMIC else f", {batch} images a call"


def _on_the_board(target: Target, forms: Forms, precisions: list[str]) -> str:
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
            "`board/cache/`.\n"
        )
    if len(precisions) > 1:
        others = " or ".join(f"`--model {precision}`" for precision in precisions[1:])
        text += f"\n`board/run.sh` runs the {precisions[0].upper()} model, with {others} another one.\n"
    return text + "\nNone of this was tried on a board: see docs/package.md of picoquant.\n"
