"""The record of layers in float, and what the log says of them."""

from __future__ import annotations

from picoquant.quantization.accuracy_control.report import LayerInFloat, MixedPrecision, Trial, log_layers

FIRST = LayerInFloat("conv2d_1", "out_1", 12.5, 0.25, 0.5, 2, {"board": 3})
SECOND = LayerInFloat("conv2d_2", "out_2", None, 0.5, None, 3)


def test_the_record_has_the_keys_of_quantization_json():
    mixed = MixedPrecision(0.1, 0.75, 0.25, True, 1, {"board": 1}, (FIRST,), (Trial(1, 0.5),))
    assert mixed.as_dict() == {
        "max_drop": 0.1,
        "fp32_mAP": 0.75,
        "int8_mAP": 0.25,
        "reached": True,
        "int8_runs": 1,
        "npu_pieces": {"board": 1},
        "layers": (
            {
                "layer": "conv2d_1",
                "output": "out_1",
                "alone_db": 12.5,
                "mAP_before": 0.25,
                "mAP_after": 0.5,
                "int8_runs": 2,
                "npu_pieces": {"board": 3},
            },
        ),
        "trials": [[1, 0.5]],
    }


def test_the_log_counts_from_the_layer_before(caplog):
    caplog.set_level("INFO", logger="picoquant")
    log_layers(MixedPrecision(npu_pieces={"board": 1}, layers=(FIRST, SECOND)))
    assert [record.getMessage() for record in caplog.records] == [
        "quantize: conv2d_1 stays in float: mAP 0.2500 -> 0.5000, board: NPU pieces 1 -> 3",
        "quantize: conv2d_2 stays in float: mAP not measured, runs of INT8 operators 2 -> 3 (no opt or NPU: pieces "
        "not counted)",
    ]
