"""oneDNN's C interface (version 3), in the library that Paddle has loaded.

Only what training steps of PicoDet need. The numbers are those of oneDNN's `dnnl_types.h`, which are the same in all of
its versions 3.x.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from ctypes import POINTER, byref, c_char_p, c_float, c_int, c_int64, c_size_t, c_uint, c_void_p
from enum import IntEnum
from functools import cache
from typing import Any

from picoquant.errors import PicoquantError
from picoquant.training.graphs.layouts import onednn_library

_VERSION = 3
_CPU, _IN_ORDER, _OWN_SCRATCH = 1, 1, 1
_NAME_OF_IMPLEMENTATION = 8  # dnnl_query_impl_info_str


class Kind(IntEnum):
    """Number formats."""

    BF16 = 2
    F32 = 3


class Tag(IntEnum):
    """Memory layouts; letters are axes from the outermost to the innermost."""

    ANY = 1
    ACDB = 22
    BLOCKS_OF_16 = 78  # aBcd16b
    BLOCKS_OF_8 = 102


class Arg(IntEnum):
    """What a memory is to a primitive."""

    SRC = 1
    SRC_1 = 2
    DST = 17
    WEIGHTS = 33
    BIAS = 41
    MEAN = 49
    VARIANCE = 50
    SCALE = 51
    SHIFT = 52
    WORKSPACE = 64
    SCRATCH = 80
    DIFF_SRC = 129
    DIFF_DST = 145
    DIFF_WEIGHTS = 161
    DIFF_BIAS = 169
    DIFF_SCALE = 255
    DIFF_SHIFT = 256
    SEVERAL = 1024
    OF_SECOND_AFTERWARDS = 2 * 32768 | 2  # what the second operation behind a primitive reads


class Query(IntEnum):
    """Which memory descriptor of a primitive is asked for."""

    SRC = 129
    WEIGHTS = 131
    DIFF_WEIGHTS = 132
    WORKSPACE = 135
    SCRATCH = 136


class Algorithm(IntEnum):
    """What a primitive computes. `_DST`: its gradient is computed from the result, not from what was read."""

    CONVOLUTION = 1
    RELU_DST = 256
    CLIP_DST = 262
    LOGISTIC_DST = 260
    SQRT_DST = 259
    LINEAR = 38
    HARD_SIGMOID = 40
    CLIP = 46
    CLIP_INSIDE = 47  # its gradient is 0 at both ends, too
    ROUND = 50  # halves to even
    HARD_SWISH = 52
    ADD = 131056
    MUL = 131057
    LARGEST = 511  # of a window
    MEAN = 767  # of a window, padding counted; there is none
    NEAREST = 196592


class Propagation(IntEnum):
    """Direction of a primitive."""

    FORWARD = 64
    BACKWARD = 128


SCALE_AND_SHIFT, FIXED_STATISTICS = 2 | 4, 1

# Instruction sets, as the bits of dnnl_cpu_isa_t: AVX2, AVX-512, AVX-512 with products of bfloat16.
AVX2, AVX512, BF16_DOT = 0x7, 0x27, 0xE7

_SIGNATURES: Mapping[str, Sequence[Any]] = {
    "engine_create": (POINTER(c_void_p), c_int, c_size_t),
    "stream_create": (POINTER(c_void_p), c_void_p, c_uint),
    "primitive_attr_create": (POINTER(c_void_p),),
    "primitive_attr_set_scratchpad_mode": (c_void_p, c_int),
    "primitive_attr_set_post_ops": (c_void_p, c_void_p),
    "post_ops_create": (POINTER(c_void_p),),
    "post_ops_append_sum": (c_void_p, c_float, c_int, c_int),
    "post_ops_append_binary": (c_void_p, c_int, c_void_p),
    "post_ops_append_eltwise": (c_void_p, c_int, c_float, c_float),
    "memory_desc_create_with_tag": (POINTER(c_void_p), c_int, c_void_p, c_int, c_int),
    "memory_desc_create_with_strides": (POINTER(c_void_p), c_int, c_void_p, c_int, c_void_p),
    "memory_desc_create_submemory": (POINTER(c_void_p), c_void_p, c_void_p, c_void_p),
    "memory_desc_clone": (POINTER(c_void_p), c_void_p),
    "memory_create": (POINTER(c_void_p), c_void_p, c_void_p, c_void_p),
    "memory_set_data_handle": (c_void_p, c_void_p),
    "primitive_create": (POINTER(c_void_p), c_void_p),
    "primitive_execute": (c_void_p, c_void_p, c_int, c_void_p),
    "primitive_desc_query": (c_void_p, c_int, c_int, c_void_p),
    "primitive_desc_next_impl": (c_void_p,),
    "reorder_primitive_desc_create": (POINTER(c_void_p), *[c_void_p] * 5),
    "convolution_forward_primitive_desc_create": (POINTER(c_void_p), c_void_p, c_int, c_int, *[c_void_p] * 9),
    "convolution_backward_data_primitive_desc_create": (POINTER(c_void_p), c_void_p, c_int, *[c_void_p] * 9),
    "convolution_backward_weights_primitive_desc_create": (
        POINTER(c_void_p),
        c_void_p,
        c_int,
        *[c_void_p] * 10,
    ),
    "batch_normalization_forward_primitive_desc_create": (
        POINTER(c_void_p),
        c_void_p,
        c_int,
        c_void_p,
        c_void_p,
        c_float,
        c_uint,
        c_void_p,
    ),
    "batch_normalization_backward_primitive_desc_create": (
        POINTER(c_void_p),
        c_void_p,
        c_int,
        *[c_void_p] * 3,
        c_float,
        c_uint,
        c_void_p,
        c_void_p,
    ),
    "eltwise_forward_primitive_desc_create": (
        POINTER(c_void_p),
        c_void_p,
        c_int,
        c_int,
        c_void_p,
        c_void_p,
        c_float,
        c_float,
        c_void_p,
    ),
    "eltwise_backward_primitive_desc_create": (
        POINTER(c_void_p),
        c_void_p,
        c_int,
        *[c_void_p] * 3,
        c_float,
        c_float,
        c_void_p,
        c_void_p,
    ),
    "binary_primitive_desc_create": (POINTER(c_void_p), c_void_p, c_int, *[c_void_p] * 4),
    "sum_primitive_desc_create": (POINTER(c_void_p), c_void_p, c_void_p, c_int, *[c_void_p] * 3),
    "pooling_forward_primitive_desc_create": (POINTER(c_void_p), c_void_p, c_int, c_int, *[c_void_p] * 8),
    "pooling_backward_primitive_desc_create": (POINTER(c_void_p), c_void_p, c_int, *[c_void_p] * 9),
    "shuffle_forward_primitive_desc_create": (
        POINTER(c_void_p),
        c_void_p,
        c_int,
        c_void_p,
        c_void_p,
        c_int,
        c_int64,
        c_void_p,
    ),
    "shuffle_backward_primitive_desc_create": (
        POINTER(c_void_p),
        c_void_p,
        c_void_p,
        c_void_p,
        c_int,
        c_int64,
        c_void_p,
        c_void_p,
    ),
    "resampling_forward_primitive_desc_create": (POINTER(c_void_p), c_void_p, c_int, c_int, *[c_void_p] * 4),
    "resampling_backward_primitive_desc_create": (POINTER(c_void_p), c_void_p, c_int, *[c_void_p] * 5),
}
_DESTROYED = ("memory_desc", "memory", "primitive_desc", "primitive", "primitive_attr", "post_ops")


class OneDnnError(PicoquantError):
    """oneDNN refused a call; a fault of picoquant's."""


class Library:
    """The functions, an engine (the CPU) and a stream (one primitive after another).

    Args:
        shared: the library that is loaded.
    """

    def __init__(self, shared: ctypes.CDLL) -> None:
        self._functions: dict[str, Any] = {}
        for name, types in _SIGNATURES.items():
            self._add(shared, name, types)
        for name in _DESTROYED:
            self._add(shared, f"{name}_destroy", (c_void_p,))
        self._size = shared.dnnl_memory_desc_get_size
        self._size.restype, self._size.argtypes = c_size_t, (c_void_p,)
        self._equal = shared.dnnl_memory_desc_equal
        self._equal.restype, self._equal.argtypes = c_int, (c_void_p, c_void_p)
        self._describe = shared.dnnl_primitive_desc_query_md
        self._describe.restype, self._describe.argtypes = c_void_p, (c_void_p, c_int, c_int)
        self._instructions = int(shared.dnnl_get_effective_cpu_isa())
        self.engine = self.made("engine", _CPU, 0)
        self.stream = self.made("stream", self.engine, _IN_ORDER)
        self.attributes = self._attributes()

    def _add(self, shared: ctypes.CDLL, name: str, types: Sequence[Any]) -> None:
        function = getattr(shared, f"dnnl_{name}")
        function.restype, function.argtypes = c_int, tuple(types)
        self._functions[name] = function

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function by its name without `dnnl_`. Raises: `OneDnnError`."""
        status = self._functions[name](*arguments)
        if status:
            raise OneDnnError(f"oneDNN: dnnl_{name} failed with status {status}")

    def made(self, kind: str, *arguments: Any) -> int:
        """The address of a new object of a kind, or by a function of this name. Raises: `OneDnnError`."""
        found = c_void_p()
        self.call(kind if kind in self._functions else f"{kind}_create", byref(found), *arguments)
        return int(found.value or 0)

    def backward(self, kind: str, hint: int, *arguments: Any) -> int:
        """The descriptor of a backward primitive, with the default attributes.

        Args:
            kind: of the primitive, for example `pooling_backward`.
            hint: the descriptor of its forward primitive, which is freed.
            arguments: what comes before the hint.
        """
        found = self.made(f"{kind}_primitive_desc", self.engine, *arguments, hint, self.attributes)
        self.destroy("primitive_desc", hint)
        return found

    def has(self, instructions: int) -> bool:
        """Whether the processor, as far as oneDNN may use it, has an instruction set."""
        return self._instructions & instructions == instructions

    def added_to_result(self, also: int) -> int:
        """Attributes of a primitive that adds to what is in its result's memory, and something else of a descriptor.

        The caller destroys them (`primitive_attr`).
        """
        found, operations = self._attributes(), self.made("post_ops")
        self.call("post_ops_append_sum", operations, 1.0, 0, 0)
        self.call("post_ops_append_binary", operations, Algorithm.ADD, also)
        self.call("primitive_attr_set_post_ops", found, operations)
        self.destroy("post_ops", operations)
        return found

    def followed_by(self, functions: Sequence[tuple[Algorithm, float, float]]) -> int:
        """Attributes of a primitive whose result goes through functions of each value, with two numbers each.

        The caller destroys them (`primitive_attr`).
        """
        found, operations = self._attributes(), self.made("post_ops")
        for algorithm, alpha, beta in functions:
            self.call("post_ops_append_eltwise", operations, algorithm, alpha, beta)
        self.call("primitive_attr_set_post_ops", found, operations)
        self.destroy("post_ops", operations)
        return found

    def _attributes(self) -> int:
        found = self.made("primitive_attr")
        self.call("primitive_attr_set_scratchpad_mode", found, _OWN_SCRATCH)
        return found

    @property
    def execute(self) -> Any:
        """`dnnl_primitive_execute` itself, which returns its status."""
        return self._functions["primitive_execute"]

    def bytes_of(self, descriptor: int) -> int:
        """Bytes of a memory of a descriptor."""
        return int(self._size(descriptor))

    def equal(self, one: int, other: int) -> bool:
        """Whether two descriptors are of the same shape, number format and layout."""
        return bool(self._equal(one, other))

    def described(self, primitive: int, what: Query) -> int:
        """A copy of a memory descriptor of a primitive's descriptor; its size is 0 where there is none."""
        found = c_void_p()
        self.call("memory_desc_clone", byref(found), self._describe(primitive, what, 0))
        return int(found.value or 0)

    def implementation(self, primitive: int) -> str:
        """The name of the kernel that a primitive's descriptor has chosen."""
        found = c_char_p()
        self.call("primitive_desc_query", primitive, _NAME_OF_IMPLEMENTATION, 0, byref(found))
        return (found.value or b"").decode()

    def next_implementation(self, primitive: int) -> bool:
        """Let a primitive's descriptor choose the next kernel that can compute it; False where there is none."""
        return self._functions["primitive_desc_next_impl"](primitive) == 0

    def destroy(self, kind: str, address: int) -> None:
        """Free an object of a kind."""
        self._functions[f"{kind}_destroy"](address)


def integers(values: Sequence[int]) -> Any:
    """Values as an array of 64-bit integers, as sizes and strides are passed."""
    return (c_int64 * len(values))(*values)


@cache
def library() -> Library | None:
    """oneDNN as Paddle has loaded it; None where it is not found or of another version."""
    shared = onednn_library()
    if shared is None:
        return None
    version = shared.dnnl_version
    version.restype = POINTER(c_int)
    return Library(shared) if version()[0] == _VERSION else None
