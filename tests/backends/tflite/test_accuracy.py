"""mAP of the `.tflite` beside ONNX Runtime's, on trained networks and real images."""

from __future__ import annotations

import pytest

from picoquant.commands.compare_runtimes import evaluate_backends
from tests.command_line import picoquant, with_sets

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed: pip install 'picoquant[tflite]'")
COCO = ("coco600", "images", "instances.json"), ("coco465", "images", "instances.json")
BCCD = ("bccd", "JPEGImages", "instances_train.json"), ("bccd", "JPEGImages", "instances_val.json")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("config", "weights", "data"),
    [
        ("picodet_s_416_coco_npu.yml", "picodet_s_npu_bccd.pdparams", BCCD),
        ("picodet_xs_320_coco_lcnet.yml", "picodet_xs_320_coco_lcnet.pdparams", COCO),
    ],
    ids=["npu_bccd", "xs_coco465"],
)
def test_map_is_that_of_onnx_runtime(config, weights, data, shared, tmp_path):
    """S-NPU: ONNX Runtime 0.3494, XNNPACK 0.3487, LiteRT's own kernels 0.3469; XS: 0.2428, 0.2435, 0.2425."""
    sets = [
        f"Global.config={config}",
        f"Global.weights={shared / 'weights' / weights}",
        "Global.input_size=[320,320]",
        "Quantize.method=ptq",
    ]
    for section, (name, images, listed) in zip(("Train", "Eval"), data):
        sets += [
            f"{section}Dataset.dataset_dir={shared / 'datasets' / name}",
            f"{section}Dataset.image_dir={images}",
            f"{section}Dataset.anno_path={listed}",
        ]
    run = tmp_path / "run"
    done = picoquant(
        "run",
        "-c",
        "picodet_s_qat_dis.yaml",
        "--until",
        "quantize",
        "--save-dir",
        run,
        *with_sets(sets),
        timeout=3600,
    )
    assert done.returncode == 0, done.stderr
    backends = ("onnx", "tflite", "tflite-no-xnnpack")
    found = evaluate_backends(None, (), str(run), backends, (str(run / "quantize"),))
    values = {row.backend: row.evaluation.metrics["mAP"] for row in found.rows}
    assert values["onnx"] > 0.2
    assert values["tflite"] == pytest.approx(values["onnx"], abs=0.003)
    assert values["tflite-no-xnnpack"] == pytest.approx(values["onnx"], abs=0.003)
