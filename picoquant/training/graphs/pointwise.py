"""Weight gradients of 1x1 convolutions as products of matrices, where feature maps are channels last.

The weight gradient is the product of the gradient, `[C_out, N H W]`, and the image, `[N H W, C_in]`. oneDNN's kernel
for it asks for blocks of 16 channels, and bringing both into them takes nearly as long as the kernel itself. Channels
last they are these matrices already: oneDNN's `transpose2` copies them as they lie, and rightly from any other
layout. The product is oneDNN's, called from the graph, because Paddle's operators for it are slower.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
from paddle.base import core

from picoquant.training.graphs.layouts import onednn_library
from picoquant.utils.paddle_version.differences import onednn_attribute
from picoquant.utils.paddle_version.memory import float32_view

_TYPE = "conv2d_grad"


def pointwise_weight_gradients(block: Any, start: int) -> None:
    """Replace the gradient operators that compute the filter's gradient alone, of 1x1 convolutions of stride 1.

    Args:
        block: a `paddle.static` block.
        start: index of the first gradient operator in it.
    """
    product = matrix_product()
    if product is None:
        return
    for index in reversed(range(start, len(block.ops))):
        if _suits(block, block.ops[index]):
            _replace(block, index, product)


def _suits(block: Any, operator: Any) -> bool:
    if operator.type != _TYPE or operator.output("Input@GRAD") or not operator.output("Filter@GRAD"):
        return False
    return (
        operator.attr("groups") == 1
        and tuple(block.var(operator.input("Filter")[0]).shape[2:]) == (1, 1)
        and set(operator.attr("strides")) == {1}
        and set(operator.attr("paddings")) == {0}
        and operator.attr("padding_algorithm") == "EXPLICIT"
        and operator.attr("data_format") in ("NCHW", "AnyLayout")
    )


def _replace(block: Any, index: int, product: Callable[[Any, Any], np.ndarray]) -> None:
    operator = block.ops[index]
    role, result = operator.attr("op_role"), operator.output("Filter@GRAD")[0]
    names = operator.input("Output@GRAD")[0], operator.input("Input")[0]
    block._remove_op(index)
    matrices = []
    for place, name in enumerate(names):
        value = block.var(name)
        images, channels, height, width = value.shape
        rows = block.create_var(
            name=f"{result}@rows{place}", shape=[images, height, width, channels], dtype=value.dtype
        )
        kept = block.create_var(name=f"{result}@shape{place}", shape=[0], dtype=value.dtype)
        block._insert_op(
            index,
            type="transpose2",
            inputs={"X": [name]},
            outputs={"Out": rows, "XShape": kept},
            attrs={"axis": [0, 2, 3, 1], "op_role": role, onednn_attribute(): True},
        )
        index += 1
        matrices.append(rows.name)

    def called(gradient: Any, image: Any) -> Any:
        value = core.LoDTensor()
        value.set(product(gradient, image), core.CPUPlace())
        return (value,)

    # Paddle gives its reference back after Python has ended, and must not be the last to do so.
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(called))
    number = core._append_python_callable_object_and_return_id(called)
    attributes = {"forward_callable_id": number, "backward_callable_id": -1, "backward_skip_vars": []}
    block._insert_op(
        index,
        type="py_func",
        inputs={"X": matrices},
        outputs={"Out": [result]},
        attrs={**attributes, "op_role": role},
    )


def matrix_product() -> Callable[[Any, Any], np.ndarray] | None:
    """The function of gradient `[N, H, W, C_out]` and image `[N, H, W, C_in]` that returns `[C_out, C_in, 1, 1]`.

    None where Paddle has loaded no oneDNN.
    """
    library = onednn_library()
    if library is None:
        return None
    sgemm = library.dnnl_sgemm
    size, pointer, number = ctypes.c_int64, ctypes.c_void_p, ctypes.c_float
    sgemm.argtypes = (
        ctypes.c_char, ctypes.c_char, size, size, size, number, pointer, size, pointer, size, number, pointer, size,
    )  # fmt: skip

    def product(gradient: Any, image: Any) -> np.ndarray:
        left, right = float32_view(gradient), float32_view(image)
        rows, columns = left.shape[-1], right.shape[-1]
        out = np.empty([rows, columns, 1, 1], np.float32)
        where = [array.ctypes.data for array in (left, right, out)]
        count = left.size // rows
        status = sgemm(
            b"T", b"N", rows, columns, count, 1.0, where[0], rows, where[1], columns, 0.0, where[2], columns
        )
        if status:
            out[..., 0, 0] = left.reshape(-1, rows).T @ right.reshape(-1, columns)
        return out

    return product
