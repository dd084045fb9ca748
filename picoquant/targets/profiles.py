"""NPU targets: profiles of boards, with the rules for quantising and compiling models for them.

Shipped profiles are `npu_targets/*.yaml`, each with its sources; a user's own profile has the same keys.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

from picoquant.errors import ConfigError
from picoquant.targets.integer_rules import (
    MULTIPLIER_BITS,
    MULTIPLIER_ROUNDINGS,
    NUMBERS,
    ROUNDINGS,
    TABLE_POINTS,
    Arithmetic,
    MultiplierRule,
    Rules,
)
from picoquant.targets.operator_list import OperatorList, load_operators
from picoquant.targets.profile_files import known_targets, profile_path, read_profile
from picoquant.utils.suggest import unknown_key

ALL = "all"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

WEIGHTS = ("per_channel", "per_tensor")
SCHEMES = ("uint8_per_tensor", "int8_per_tensor", "int8_per_channel", "int16_per_tensor")
UNITS = ("nn", "shader")
ANDROID_ABIS = ("armeabi-v7a", "arm64-v8a")
ABIS = ("armhf", "arm64", *ANDROID_ABIS, "any")


@dataclass(frozen=True)
class Driver:
    """The NPU's kernel driver on the board; all empty for a board without NPU.

    Attributes:
        name, version: of the driver.
        library_folder: folder of its libraries in Paddle Lite's demo.
    """

    name: str
    version: str
    library_folder: str


@dataclass(frozen=True)
class PaddleLite:
    """How Paddle Lite runs a model on the target.

    Attributes:
        device: NNAdapter's device name; empty for a CPU.
        valid_targets: opt's option of that name, comma-separated.
        opt_version: version of opt that the profile was checked with.
        operators: operators that the NPU supports, or the CPU for a board without NPU. In the YAML, the name
            of the file that lists them, in `operators/` beside the profile or among picoquant's own.
    """

    device: str
    valid_targets: str
    opt_version: str
    operators: OperatorList


@dataclass(frozen=True)
class QuantizationRules:
    """The quantisation that the NPU requires.

    Attributes:
        weights: granularity of the weight scales, `per_channel` or `per_tensor`.
        weight_bits, activation_bits: width of the integers.
        symmetric: whether 0.0 must be in the middle of every activation's range; false: `quantize` gives each a zero
            point, as `QuantAware.symmetric_activations` says.
        needs_scales: types of the operators that the board only loads if every input and output has a scale;
            `all` for every operator on the NPU.
        mixed_precision: whether single layers may stay in floating point. False for an NPU that runs INT8
            only: there each such layer runs on the CPU and divides the network into more subgraphs.
        schemes: what computes convolutions of a scheme (`SCHEMES`): `nn`, the convolution cores, or `shader`, the
            programmable ones, which are many times slower. Schemes that nobody has measured are missing.
    """

    weights: str
    weight_bits: int
    activation_bits: int
    symmetric: bool
    needs_scales: tuple[str, ...]
    mixed_precision: bool
    schemes: Mapping[str, str] = field(default_factory=dict)

    def unit_of(self, weights: str) -> str | None:
        """What computes convolutions with weights of a granularity as NNAdapter hands them over; None: not known.

        It makes uint8 of a tensor with one scale (`convert_quantization_symm_to_asymm.cc`); weights with several stay.
        """
        return self.schemes.get({"per_tensor": "uint8_per_tensor"}.get(weights, f"int8_{weights}"))


@dataclass(frozen=True)
class EthosU:
    """Section `ethos_u`: what Vela is told of an Arm Ethos-U.

    Attributes:
        accelerator: its `--accelerator-config`, for example `ethos-u65-256`.
        system_config, memory_mode: names in Vela's own `Arm/vela.ini`: clock and memories that it estimates with.
    """

    accelerator: str
    system_config: str
    memory_mode: str


@dataclass(frozen=True)
class VeriSilicon:
    """Section `verisilicon`: which of the NPUs in VeriSilicon's emulator is the target's.

    Attributes:
        chip: the emulator's name of it, which ends in the product id: `VIPNANOQI_PID0X88`.
        confirmed: whether a public source says that this is the target's.
    """

    chip: str
    confirmed: bool


@dataclass(frozen=True)
class Target:
    """The SoC of a board.

    Attributes:
        name: file name of the profile without its suffix.
        vendor, soc, cpu, npu: descriptions.
        int8_tops: published INT8 throughput, tera operations per second; None if none is published.
        int8_tops_source: source of that number.
        abi: `armhf` or `arm64`, under Android `armeabi-v7a` or `arm64-v8a`; `any` if nothing is compiled for it.
        os, kernels: operating system and kernel versions that it was tested with.
        driver, paddle_lite, quantization: see their classes; paddle_lite is None for hardware that Paddle
            Lite does not support.
        arithmetic: integer arithmetic for the simulation; None if the target is not simulated.
        environment: environment variables that the program on the board requires.
        latency_ms: published latencies: model -> `cpu`, `npu` -> milliseconds or None.
        backends: names of the backends whose files of the INT8 model its package holds beside the ONNX.
        tflite_delegate: path, on the board, of the library with which TensorFlow Lite runs on its NPU; empty: unknown.
        ethos_u: how Vela compiles for it; None without an Arm Ethos-U.
        verisilicon: its NPU in VeriSilicon's emulator; None where that has none, or nobody knows which.
        tried: what of it was run, and on what machine; empty: nothing was.
    """

    name: str
    vendor: str
    soc: str
    cpu: str
    npu: str
    int8_tops: float | None
    int8_tops_source: str
    abi: str
    os: str
    kernels: tuple[str, ...]
    driver: Driver
    paddle_lite: PaddleLite | None
    quantization: QuantizationRules
    arithmetic: Arithmetic | None
    environment: dict[str, str]
    latency_ms: dict[str, dict[str, Any]]
    backends: tuple[str, ...] = ()
    tried: str = ""
    tflite_delegate: str = ""
    ethos_u: EthosU | None = None
    verisilicon: VeriSilicon | None = None

    @property
    def on_npu(self) -> bool:
        """Whether Paddle Lite runs models on an NPU of this target."""
        return self.paddle_lite is not None and bool(self.paddle_lite.device)

    @property
    def android(self) -> bool:
        """Whether its programs are Android's."""
        return self.abi in ANDROID_ABIS

    @property
    def integer_rules(self) -> Rules | None:
        """The rules for the simulation; None if the target is not simulated."""
        return Rules(self.arithmetic) if self.arithmetic else None


def load_target(name: str | Path) -> Target:
    """Load a shipped target by name, or a user's own by the path of its YAML file.

    Raises: `ConfigError` for an unknown target (lists the known ones, the most similar first), and for a
        missing, unknown or invalid key in the file.
    """
    path = profile_path(name)
    return _target(path.stem, read_profile(path), path)


def load_targets(names: Iterable[str]) -> list[Target]:
    """Load several targets, without duplicates; the name `all` stands for every shipped one.

    Raises: the errors of `load_target`.
    """
    chosen = [known for name in names for known in (known_targets() if name == ALL else [name])]
    return [load_target(name) for name in dict.fromkeys(chosen)]


def _target(name: str, values: Mapping[str, Any], path: Path) -> Target:
    where = str(path)
    if "name" in values:
        raise ConfigError(f"{where}: unknown key name: the file's own name is the target's")
    settings = _fields(Target, {**values, "name": name}, where)
    parts = {
        "driver": Driver,
        "paddle_lite": PaddleLite,
        "quantization": QuantizationRules,
        "arithmetic": Arithmetic,
        "ethos_u": EthosU,
        "verisilicon": VeriSilicon,
    }
    for key, section in parts.items():
        if key not in ("driver", "quantization") and settings.get(key) is None:
            continue
        below = f"{where}: {key}"
        values = _fields(section, _mapping(settings[key], below), below)
        if key == "paddle_lite":
            values["operators"] = load_operators(values["operators"], path, f"{below}: operators")
        if key == "quantization":
            values["needs_scales"] = _names(values["needs_scales"], f"{below}: needs_scales")
            if "schemes" in values:
                values["schemes"] = _schemes(values["schemes"], f"{below}: schemes")
        if key == "arithmetic":
            values["multiplier"] = _multiplier(values["multiplier"], f"{below}: multiplier")
            _one_of(values.get("table_points"), TABLE_POINTS, f"{below}: table_points")
            _one_of(values["numbers"], NUMBERS, f"{below}: numbers")
            _one_of(values["rounding"], ROUNDINGS, f"{below}: rounding")
        settings[key] = section(**values)
    rules: QuantizationRules = settings["quantization"]
    _one_of(rules.weights, WEIGHTS, f"{where}: quantization: weights")
    _one_of(settings["abi"], ABIS, f"{where}: abi")
    for key in ("kernels", "backends"):
        texts = settings.get(key, [])
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ConfigError(f"{where}: {key}: a list of texts expected, found {texts!r}")
        settings[key] = tuple(texts)
    settings["environment"] = _environment(settings["environment"], f"{where}: environment")
    settings["latency_ms"] = _latencies(settings["latency_ms"], f"{where}: latency_ms")
    return Target(**settings)


# Types that a field's annotation allows for its value; nested values are checked where they are built.
_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "str": ((str,), "text"),
    "float | None": ((int, float, type(None)), "a number or null"),
    "int": ((int,), "a whole number"),
    "int | None": ((int, type(None)), "a whole number or null"),
    "bool": ((bool,), "true or false"),
}


def _fields(section: type, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The values for a dataclass's fields; `ConfigError` for a missing or unknown key or a wrong type."""
    annotations = {one.name: one.type for one in fields(section)}
    optional = {
        one.name for one in fields(section) if (one.default, one.default_factory) != (MISSING, MISSING)
    }
    for key in values:
        if key not in annotations:
            raise unknown_key(where, str(key), set(annotations) - {"name"})
    for key, annotation in annotations.items():
        if key not in values:
            if key in optional:
                continue
            raise ConfigError(f"{where}: key {key} is missing")
        value = values[key]
        types, description = _TYPES.get(str(annotation), ((object,), ""))
        is_bool = isinstance(value, bool) and bool not in types  # in Python, True is an int
        if description and (is_bool or not isinstance(value, types)):
            raise ConfigError(f"{where}: {key}: {description} expected, found {value!r}")
    return dict(values)


def _multiplier(value: Any, where: str) -> MultiplierRule | None:
    """The rule of the integer multiplier; None where a target multiplies by float32."""
    if value is None:
        return None
    rule = MultiplierRule(**_fields(MultiplierRule, _mapping(value, where), where))
    _one_of(rule.bits, MULTIPLIER_BITS, f"{where}: bits")
    _one_of(rule.rounding, MULTIPLIER_ROUNDINGS, f"{where}: rounding")
    return rule


def _schemes(value: Any, where: str) -> dict[str, str]:
    """What computes convolutions of each scheme."""
    for scheme, unit in _mapping(value, where).items():
        if scheme not in SCHEMES:
            raise unknown_key(where, str(scheme), SCHEMES)
        _one_of(unit, UNITS, f"{where}: {scheme}")
    return dict(value)


def _names(value: Any, where: str) -> tuple[str, ...]:
    """`all`, or a list of operator types."""
    if value == "all":
        return ("all",)
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise ConfigError(f"{where}: all, or a list of operator types expected, found {value!r}")
    return tuple(value)


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise ConfigError(f"{where}: keys and values expected, found {value!r}")
    return value


def _one_of(value: Any, allowed: tuple, where: str) -> None:
    if value not in allowed:
        raise ConfigError(f"{where}: {value!r} is none of {', '.join(map(str, allowed))}")


def _environment(value: Any, where: str) -> dict[str, str]:
    variables = {}
    for key, text in _mapping(value, where).items():
        if not _VARIABLE.fullmatch(str(key)):
            raise ConfigError(f"{where}: {key!r} is no name of an environment variable")
        if isinstance(text, bool) or not isinstance(text, (str, int)) or "\n" in str(text):
            raise ConfigError(f"{where}: {key}: a text or whole number in one line expected, found {text!r}")
        variables[str(key)] = str(text)
    return variables


def _latencies(value: Any, where: str) -> dict[str, dict[str, Any]]:
    for model, row in _mapping(value, where).items():
        for unit, time in _mapping(row, f"{where}: {model}").items():
            if unit not in ("cpu", "npu"):
                raise unknown_key(f"{where}: {model}", str(unit), ("cpu", "npu"))
            if time is not None and (isinstance(time, bool) or not isinstance(time, (int, float))):
                raise ConfigError(f"{where}: {model}: {unit}: milliseconds or null expected, found {time!r}")
    return {str(model): dict(row) for model, row in value.items()}
