"""Every operator of the engine against Paddle's own kernel in a static program with the same attributes."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from picoquant.quantization.engine.convolution import Convolutions
from picoquant.quantization.engine.network import FakeQuantNetwork
from picoquant.quantization.engine.operators import OPERATORS
from picoquant.utils.paddle_version.differences import paddle_3
from tests.networks.paddle_static import graph_of, static_session

_RANDOM = np.random.RandomState(5)


def drawn(*shape):
    return _RANDOM.randn(*shape).astype(np.float32)


IMAGE, ODD = drawn(2, 4, 6, 8), drawn(2, 4, 7, 5)
POSITIVE = np.abs(IMAGE) + 0.1
EXPLICIT = {"padding_algorithm": "EXPLICIT", "data_format": "NCHW"}
CONV = {"strides": [2, 1], "paddings": [1, 2], "dilations": [1, 1], "groups": 1, **EXPLICIT}
POOL = {
    "ksize": [3, 2], "strides": [2, 2], "paddings": [1, 0], "ceil_mode": True, "exclusive": True, "adaptive": False,
    "global_pooling": False, **EXPLICIT,
}  # fmt: skip
RESIZE = {"align_corners": False, "align_mode": 1, "out_h": -1, "out_w": -1, "data_layout": "NCHW"}
SMALLER = {**RESIZE, "scale": [], "out_h": 9, "out_w": 5}
PAD = {"paddings": [1, 0, 0, 2, 0, 0], "mode": "constant", "value": 0.5, "data_format": "NCDHW"}
REDUCE = {"dim": [2, 3], "keep_dim": True, "reduce_all": False}
# Attributes of stored numbers; Paddle 3 has one for all kinds, but for programs that it reads.
FLOATS, INTS = ("values", "values") if paddle_3() else ("fp32_values", "int32_values")
STRIDED = {"axes": [3], "starts": [1], "ends": [8], "strides": [2], "infer_flags": [1], "decrease_axis": []}
PAIRS = ("add", "sub", "mul", "max", "min")
NORM = {
    "Scale": drawn(4), "Bias": drawn(4), "Mean": drawn(4), "Variance": np.abs(drawn(4)) + 0.5,
}  # fmt: skip

# Operator type -> inputs by slot, attributes; one case each.
CASES = [
    ("conv2d", {"Input": IMAGE, "Filter": drawn(6, 4, 3, 5)}, CONV),
    ("conv2d", {"Input": ODD, "Filter": drawn(6, 2, 3, 3)}, {**CONV, "groups": 2, "padding_algorithm": "SAME"}),
    ("conv2d", {"Input": ODD, "Filter": drawn(6, 4, 3, 3)}, {**CONV, "paddings": [0, 1, 2, 0]}),
    ("conv2d", {"Input": IMAGE, "Filter": drawn(6, 4, 3, 3)}, {**CONV, "dilations": [2, 1]}),
    ("depthwise_conv2d", {"Input": IMAGE, "Filter": drawn(4, 1, 3, 3)}, {**CONV, "groups": 4}),
    ("conv2d_transpose", {"Input": IMAGE, "Filter": drawn(4, 3, 3, 3)}, {**CONV, "paddings": [1, 1]}),
    ("batch_norm", {"X": IMAGE, **NORM}, {"epsilon": 1e-3, "momentum": 0.9, "is_test": True, "data_layout": "NCHW"}),
    ("relu", {"X": IMAGE}, {}),
    ("relu6", {"X": 5 * IMAGE}, {"threshold": 6.0}),
    ("leaky_relu", {"X": IMAGE}, {"alpha": 0.1}),
    ("elu", {"X": IMAGE}, {"alpha": 0.7}),
    ("gelu", {"X": IMAGE}, {"approximate": False}),
    ("mish", {"X": IMAGE}, {}),
    ("swish", {"X": IMAGE}, {"beta": 1.0}),
    ("silu", {"X": IMAGE}, {}),
    ("hard_swish", {"X": 3 * IMAGE}, {"threshold": 6.0, "scale": 6.0, "offset": 3.0}),
    ("hard_swish", {"X": 3 * IMAGE}, {"threshold": 5.0, "scale": 4.0, "offset": 2.0}),
    ("hard_sigmoid", {"X": 3 * IMAGE}, {"slope": 0.2, "offset": 0.4}),
    ("sigmoid", {"X": IMAGE}, {}),
    ("tanh", {"X": IMAGE}, {}),
    ("exp", {"X": IMAGE}, {}),
    ("log", {"X": POSITIVE}, {}),
    ("sqrt", {"X": POSITIVE}, {}),
    ("square", {"X": IMAGE}, {}),
    ("abs", {"X": IMAGE}, {}),
    ("softmax", {"X": IMAGE}, {"axis": 1}),
    ("clip", {"X": IMAGE}, {"min": -0.5, "max": 0.7}),
    *((f"elementwise_{kind}", {"X": IMAGE, "Y": IMAGE[::-1].copy()}, {"axis": -1}) for kind in PAIRS),
    ("elementwise_add", {"X": IMAGE, "Y": drawn(4)}, {"axis": 1}),
    ("elementwise_mul", {"X": IMAGE, "Y": drawn(2, 4, 1, 1)}, {"axis": -1}),
    ("elementwise_mul", {"X": IMAGE, "Y": drawn(2, 4)}, {"axis": 0}),
    ("elementwise_sub", {"X": IMAGE, "Y": drawn(8)}, {"axis": -1}),
    ("elementwise_div", {"X": IMAGE, "Y": POSITIVE}, {"axis": -1}),
    ("elementwise_pow", {"X": POSITIVE, "Y": IMAGE}, {"axis": -1}),
    ("pow", {"X": POSITIVE}, {"factor": 1.5}),
    ("sum", {"X": [IMAGE, POSITIVE, IMAGE]}, {}),
    ("mul", {"X": drawn(2, 3, 4), "Y": drawn(12, 5)}, {"x_num_col_dims": 1, "y_num_col_dims": 1}),
    ("matmul", {"X": drawn(2, 3, 4), "Y": drawn(2, 5, 4)}, {"transpose_X": False, "transpose_Y": True, "alpha": 0.5}),
    ("matmul_v2", {"X": drawn(2, 4, 3), "Y": drawn(2, 4, 5)}, {"trans_x": True, "trans_y": False}),
    ("pool2d", {"X": IMAGE}, {**POOL, "pooling_type": "avg"}),
    ("pool2d", {"X": ODD}, {**POOL, "pooling_type": "avg", "exclusive": False, "ceil_mode": False}),
    ("pool2d", {"X": ODD}, {**POOL, "pooling_type": "max"}),
    ("pool2d", {"X": IMAGE}, {**POOL, "pooling_type": "avg", "global_pooling": True}),
    ("pool2d", {"X": IMAGE}, {**POOL, "pooling_type": "avg", "adaptive": True, "ksize": [3, 4]}),
    ("pool2d", {"X": IMAGE}, {**POOL, "pooling_type": "max", "global_pooling": True}),
    ("pool2d", {"X": IMAGE}, {**POOL, "pooling_type": "avg", "adaptive": True, "ksize": [1, 1]}),
    ("nearest_interp_v2", {"X": IMAGE}, {**RESIZE, "interp_method": "nearest", "scale": [2.0, 2.0]}),
    ("nearest_interp_v2", {"X": IMAGE}, {**SMALLER, "interp_method": "nearest"}),
    ("nearest_interp", {"X": IMAGE}, {**RESIZE, "interp_method": "nearest", "scale": 2.0}),
    ("bilinear_interp_v2", {"X": IMAGE}, {**RESIZE, "interp_method": "bilinear", "scale": [2.0, 2.0], "align_mode": 0}),
    ("bilinear_interp_v2", {"X": IMAGE}, {**SMALLER, "interp_method": "bilinear", "align_corners": True}),
    ("bilinear_interp", {"X": IMAGE}, {**RESIZE, "interp_method": "bilinear", "scale": 2.0}),
    ("pixel_shuffle", {"X": IMAGE}, {"upscale_factor": 2, "data_format": "NCHW"}),
    ("channel_shuffle", {"X": IMAGE}, {"groups": 2, "data_format": "NCHW"}),
    ("shuffle_channel", {"X": IMAGE}, {"group": 2}),
    ("concat", {"X": [IMAGE, POSITIVE]}, {"axis": 1}),
    ("split", {"X": IMAGE}, {"axis": 1, "num": 2, "sections": []}),
    ("split", {"X": IMAGE}, {"axis": 1, "num": 0, "sections": [1, 3]}),
    ("slice", {"Input": IMAGE}, {"axes": [1, 2], "starts": [1, -3], "ends": [3, 100], "decrease_axis": []}),
    ("slice", {"Input": IMAGE}, {"axes": [1], "starts": [1], "ends": [2], "decrease_axis": [1]}),
    ("strided_slice", {"Input": IMAGE}, STRIDED),
    ("stack", {"X": [IMAGE, POSITIVE]}, {"axis": 1}),
    ("unstack", {"X": IMAGE}, {"axis": 0, "num": 2}),
    ("gather", {"X": IMAGE, "Index": np.array([1, 0, 1], np.int32)}, {"axis": 0}),
    ("tile", {"X": IMAGE}, {"repeat_times": [1, 2, 1, 1]}),
    ("expand_v2", {"X": IMAGE[:, :1]}, {"shape": [2, 3, 6, 8]}),
    ("reshape2", {"X": IMAGE}, {"shape": [0, -1, 12]}),
    ("reshape", {"X": IMAGE}, {"shape": [0, 4, 48]}),
    ("transpose2", {"X": IMAGE}, {"axis": [0, 2, 3, 1]}),
    ("transpose", {"X": IMAGE}, {"axis": [0, 2, 3, 1]}),
    ("flatten_contiguous_range", {"X": IMAGE}, {"start_axis": 1, "stop_axis": 2}),
    ("squeeze2", {"X": IMAGE[:, :1]}, {"axes": [1]}),
    ("unsqueeze2", {"X": IMAGE}, {"axes": [2]}),
    ("pad3d", {"X": drawn(1, 2, 3, 4, 5)}, PAD),
    *((f"reduce_{kind}", {"X": IMAGE}, REDUCE) for kind in ("mean", "sum", "max", "min")),
    ("reduce_mean", {"X": IMAGE}, {"dim": [0], "keep_dim": False, "reduce_all": True}),
    ("scale", {"X": IMAGE}, {"scale": 2.0, "bias": 0.5, "bias_after_scale": True}),
    ("scale", {"X": IMAGE}, {"scale": 2.0, "bias": 0.5, "bias_after_scale": False}),
    ("cast", {"X": IMAGE}, {"in_dtype": 5, "out_dtype": 2}),
    ("shape", {"Input": IMAGE}, {}),
    ("assign", {"X": IMAGE}, {}),
    ("assign_value", {}, {"dtype": 5, "shape": [2, 2], FLOATS: [1.0, 2.0, 3.0, 4.0]}),
    ("assign_value", {}, {"dtype": 2, "shape": [2], INTS: [1, 2]}),
    ("fill_constant", {}, {"dtype": 5, "shape": [2, 3], "value": 1.5}),
    ("dropout", {"X": IMAGE}, {"dropout_prob": 0.25, "is_test": True, "dropout_implementation": "downgrade_in_infer"}),
    ("dropout", {"X": IMAGE}, {"dropout_prob": 0.25, "is_test": True, "dropout_implementation": "upscale_in_train"}),
]  # fmt: skip
# Slots of results, where they are not `Out`; `Y*2`: two tensors.
RESULTS = {
    "conv2d": {"Output": 1},
    "depthwise_conv2d": {"Output": 1},
    "conv2d_transpose": {"Output": 1},
    "batch_norm": {"Y": 1, "MeanOut": 1, "VarianceOut": 1, "SavedMean": 1, "SavedVariance": 1},
    "dropout": {"Out": 1, "Mask": 1},
    "split": {"Out": 2},
    "stack": {"Y": 1},
    "unstack": {"Y": 2},
    **{name: {"Out": 1, "XShape": 1} for name in ("reshape2", "transpose2", "squeeze2", "unsqueeze2")},
    "flatten_contiguous_range": {"Out": 1, "XShape": 1},
}


def of_paddle(op_type, inputs, attributes):
    """Results of Paddle's kernel, the graph of the program, and the feed."""
    with static_session():
        program = paddle.static.Program()
        block = program.global_block()
        feed, slots = {}, {}
        for slot, values in inputs.items():
            for number, value in enumerate(values if isinstance(values, list) else [values]):
                name = f"{slot}_{number}"
                feed[name] = value
                made = block.create_var(name=name, shape=value.shape, dtype=str(value.dtype), is_data=True)
                slots.setdefault(slot, []).append(made)
        results = {
            slot: [block.create_var(name=f"{slot}_result_{number}") for number in range(count)]
            for slot, count in RESULTS.get(op_type, {"Out": 1}).items()
        }
        if op_type == "batch_norm":
            results["MeanOut"], results["VarianceOut"] = slots["Mean"], slots["Variance"]
        block.append_op(type=op_type, inputs=slots, outputs=results, attrs=attributes)
        names = [one.name for one in next(iter(results.values()))]
        found = paddle.static.Executor(paddle.CPUPlace()).run(program, feed=feed, fetch_list=names)
        return found, graph_of(program, tuple(feed), names), feed


@pytest.mark.parametrize(("op_type", "inputs", "attributes"), CASES, ids=[case[0] for case in CASES])
def test_computes_what_paddles_kernel_does(op_type, inputs, attributes):
    expected, graph, feed = of_paddle(op_type, inputs, attributes)
    network = FakeQuantNetwork(graph, {}, (), {}, convolutions=Convolutions(onednn=False))
    found = network({name: paddle.to_tensor(value) for name, value in feed.items()}, graph.outputs)
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected):
        assert ours.numpy().dtype == theirs.dtype
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=1e-5, atol=1e-6)


def test_every_operator_has_a_case():
    assert {case[0] for case in CASES} == set(OPERATORS)
