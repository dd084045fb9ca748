"""A second route for Rockchip's RV1109, RV1126 and RK1808: what rknn-toolkit 1.x takes.

That toolkit reads ONNX up to opset 12 and knows no QuantizeLinear, so it cannot load the INT8 ONNX: it is given the
float network and quantises it itself. Source of its interface: rockchip-linux/rknn-toolkit,
`examples/onnx/yolov5/test.py`.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.backends.onnx.files import write_onnx
from picoquant.backends.onnx.paddle2onnx import paddle_to_onnx
from picoquant.errors import DataError, ToolError
from picoquant.packaging.sample import SampleImage
from picoquant.paddle_program.batch_norm_folding import fold_folder
from picoquant.paddle_program.edit import without_hard_swish, write_program
from picoquant.paddle_program.infer_config import InferConfig, normalisation
from picoquant.paddle_program.model_folder import MODEL, PARAMS, ModelFolder
from picoquant.paddle_program.program import read_program
from picoquant.storage.files import whole_file, write_text
from picoquant.targets.profiles import Target

FOLDER, ONNX_NAME, LIST, SCRIPT = "rknn", "model_fp32.onnx", "dataset.txt", "convert.py"
OPSET = 12
IMAGES = 20
_IR_VERSION = 7  # ONNX's, that came with opset 12
_PLATFORMS = ("rv1109", "rv1126", "rk1808")  # rknn-toolkit's names; RKNPU2 chips have another toolkit


def platform_of(target: Target) -> str | None:
    """rknn-toolkit 1.x's name of a target's chip; None for other chips."""
    name = target.soc.lower()
    return name if target.vendor == "Rockchip" and name in _PLATFORMS else None


def float_onnx(program: Any, model: ModelFolder) -> Any:
    """A float model as ONNX at opset 12 for one image, batch-norm folded.

    Args:
        program: its `ProgramDesc` for one image, see `program_edit.batch_of_one`.
        model: where its weights are.

    Returns: a checked `onnx.ModelProto`.

    Raises: `ToolError` when paddle2onnx has no such form of an operator.
    """
    from picoquant.backends.onnx.graph import Graph
    from picoquant.backends.onnx.qdq import checked
    from picoquant.backends.onnx.simplify import simplify

    with tempfile.TemporaryDirectory(prefix="picoquant-rknn-") as scratch:
        network, params = Path(scratch) / MODEL, Path(scratch) / PARAMS
        write_program(program, network)
        shutil.copyfile(model.params, params)
        fold_folder(Path(scratch))
        rewritten = read_program(network)
        without_hard_swish(rewritten)
        write_program(rewritten, network)
        graph = Graph(paddle_to_onnx(network, params, OPSET))
    simplify(graph, {variable.name for variable in program.blocks[0].vars})
    graph.model.ir_version = _IR_VERSION
    made = checked(graph)
    opset = max(item.version for item in made.opset_import)
    if opset > OPSET:
        raise ToolError(f"paddle2onnx made opset {opset} of {model.model}; rknn-toolkit takes {OPSET}")
    return made


def write_rknn(
    folder: Path, onnx_model: Any, config: InferConfig, images: Sequence[SampleImage], platform: str
) -> dict[str, Any]:
    """Write the route's files.

    Args:
        folder: to make.
        onnx_model: see `float_onnx`.
        config: of the float model.
        images: for the toolkit's quantisation; written at the input's size.
        platform: see `platform_of`.

    Returns: what the manifest says of it.
    """
    folder.mkdir()
    write_onnx(onnx_model, folder / ONNX_NAME)
    names = _write_images(folder, images, config)
    write_text(folder / LIST, "".join(f"{name}\n" for name in names))
    write_text(folder / SCRIPT, script(config, platform))
    write_text(folder / "README.md", _readme(platform, len(names)))
    return {
        "quantised_by": "rknn-toolkit 1.x, by the user; not run here",
        "opset": OPSET,
        "target_platform": platform,
        "images": [image.source for image in images],
    }


def _write_images(folder: Path, images: Sequence[SampleImage], config: InferConfig) -> list[str]:
    import cv2

    from picoquant.data.transforms.fit import FitResize
    from picoquant.data.transforms.resize import Resize
    from picoquant.data.transforms.sample import Sample

    (folder / "images").mkdir()
    names = []
    wanted, interp = tuple(config.input_size), config.interp
    resize = (
        FitResize(wanted, interp, config.padding)
        if config.keep_ratio
        else Resize(list(wanted), False, interp)
    )
    # Of padding the toolkit is given the nearest colour: without one the mean's, which becomes 0.
    colour = normalisation(config)["pixels_0_255"]["mean"] if config.fill is None else config.fill
    for number, image in enumerate(images):
        size = (float(image.image.shape[0]), float(image.image.shape[1]))
        sample = resize(Sample(image.image, im_shape=size), np.random.default_rng(0))
        pixels = np.empty((*wanted, 3), np.uint8)
        pixels[:] = np.clip(np.rint(colour), 0, 255).astype(np.uint8)
        (high, wide), (top, left) = sample.image.shape[:2], sample.pad_offset
        pixels[top : top + high, left : left + wide] = np.clip(np.rint(sample.image), 0, 255)
        bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
        done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])
        if not done:
            raise DataError(f"a calibration image ({image.source}) cannot be written as JPEG")
        name = f"images/{number:02d}.jpg"
        with whole_file(folder / name, "wb") as stream:
            stream.write(data.tobytes())
        names.append(name)
    return names


def script(config: InferConfig, platform: str) -> str:
    """`convert.py`: mean and standard deviation count pixels 0 to 255, as the toolkit does."""
    pixels = normalisation(config)["pixels_0_255"]
    mean, std = ([round(float(value), 6) for value in pixels[key]] for key in ("mean", "std"))
    return f'''"""Make an .rknn of the float ONNX beside this file, with rknn-toolkit 1.x: python3 convert.py [OUT]

The network is quantised by the toolkit, on the images in dataset.txt.
"""

import os
import sys

from rknn.api import RKNN

PLATFORM = "{platform}"
MEAN = {mean}  # of R, G, B; pixels count 0 to 255
STD = {std}


def done(step, code):
    if code != 0:
        sys.exit("rknn-toolkit: %s ended with %s" % (step, code))


def main():
    out = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else "model_%s.rknn" % PLATFORM)
    os.chdir(os.path.dirname(os.path.abspath(__file__)))  # dataset.txt names files from here
    rknn = RKNN(verbose=True)
    rknn.config(
        reorder_channel="0 1 2",  # the network takes RGB, as the toolkit reads images
        mean_values=[MEAN],
        std_values=[STD],
        target_platform=[PLATFORM],
    )
    done("load_onnx", rknn.load_onnx(model="{ONNX_NAME}"))
    done("build", rknn.build(do_quantization=True, dataset="{LIST}"))
    done("export_rknn", rknn.export_rknn(out))
    rknn.release()


if __name__ == "__main__":
    main()
'''


def _readme(platform: str, count: int) -> str:
    return (
        f"# For rknn-toolkit 1.x on {platform}\n\n"
        f"`{ONNX_NAME}` is the FLOAT network, ONNX opset {OPSET}: rknn-toolkit 1.x takes no later one and no\n"
        "QuantizeLinear, so it cannot load the INT8 ONNX of this package.\n\n"
        f"`python3 {SCRIPT}`, where rknn-toolkit 1.x is installed, makes `model_{platform}.rknn`. The toolkit\n"
        f"quantises the network itself, on the {count} images that `{LIST}` lists: it is that toolkit's\n"
        "quantisation, not picoquant's, and the manifest's INT8 mAP is not that of the `.rknn`. Nothing of this\n"
        "was run: neither the toolkit nor a board was at hand.\n\n"
        "Outputs are those of `preprocess.yml`. rknn-toolkit2 is for other chips and does not support this one.\n"
    )
