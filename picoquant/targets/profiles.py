"""NPU targets: what a board is, how a model for it is quantised and made.

Shipped profiles are `npu_targets/*.yaml`, each with its sources; a user's own file has the same keys.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from picoquant.errors import ConfigError
from picoquant.targets.integer_rules import MULTIPLIER_BITS, NUMBERS, ROUNDINGS, Arithmetic, Rules
from picoquant.targets.operator_list import OperatorList, load_operators
from picoquant.utils.suggest import unknown_key
from picoquant.yaml_files.load import load_mapping
from picoquant.yaml_files.locate import shipped, shipped_names

LOG = logging.getLogger("picoquant")

ALL = "all"
_KIND = "npu_targets"
_SUFFIXES = (".yaml", ".yml")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # becomes a folder's name
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

WEIGHTS = ("per_channel", "per_tensor")
ABIS = ("armhf", "arm64", "any")


@dataclass(frozen=True)
class Driver:
    """The NPU's kernel driver on the board and the folder of its libraries in Paddle Lite's demo.

    All empty for a board without NPU.
    """

    name: str
    version: str
    library_folder: str


@dataclass(frozen=True)
class PaddleLite:
    """How Paddle Lite reaches the NPU.

    Attributes:
        device: NNAdapter's device name; empty for a CPU.
        valid_targets: for opt, comma-separated.
        opt_version: the version of opt that the profile was checked with.
        operators: what the NPU, or the CPU where there is none, takes; in the YAML the name of the file
            that lists them, in `operators/` beside the profile or among picoquant's own.
    """

    device: str
    valid_targets: str
    opt_version: str
    operators: OperatorList


@dataclass(frozen=True)
class QuantizationRules:
    """What the NPU takes.

    Attributes:
        weights: `per_channel` or `per_tensor` scales.
        weight_bits, activation_bits: bits of an integer.
        symmetric: whether 0.0 is the integer 0.
        needs_scales: operators that do not load on the board without a scale for every input and output;
            `all` means each one on the NPU.
        mixed_precision: whether single layers may be in floating point at no harm; false for an NPU that
            takes INT8 only, where each such layer is one for the CPU and splits the network.
    """

    weights: str
    weight_bits: int
    activation_bits: int
    symmetric: bool
    needs_scales: tuple[str, ...]
    mixed_precision: bool


@dataclass(frozen=True)
class Target:
    """One board's SoC.

    Attributes:
        name: the profile's file name without its suffix.
        vendor, soc, cpu, npu: in words.
        int8_tops: stated throughput, tera operations a second; None where nobody states one.
        int8_tops_source: who states it.
        abi: `armhf` or `arm64`; `any` where nothing is compiled.
        os, kernels: operating system and kernel versions it was tested with.
        driver, paddle_lite, quantization: see their classes; paddle_lite is None for hardware that Paddle
            Lite does not reach.
        arithmetic: how its integers are simulated; None where there is nothing to simulate.
        environment: variables that the program on the board needs.
        latency_ms: published latencies: model -> `cpu`, `npu` -> milliseconds or None.
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

    @property
    def on_npu(self) -> bool:
        """Whether Paddle Lite runs a model on an NPU here."""
        return self.paddle_lite is not None and bool(self.paddle_lite.device)

    @property
    def integer_rules(self) -> Rules | None:
        """What the simulation computes with; None where there is nothing to simulate."""
        return Rules(self.arithmetic, self.quantization.symmetric) if self.arithmetic else None


def known_targets() -> list[str]:
    """Names of the shipped profiles, sorted."""
    return shipped_names(_KIND)


def load_target(name: str | Path) -> Target:
    """A shipped target by name, or one's own by the path of its YAML file.

    Raises: `ConfigError` for an unknown target (the known ones, the nearest first), and for a missing,
        unknown or unusable key of the file.
    """
    path = profile_path(name)
    return _target(path.stem, read_profile(path), path)


def load_targets(names: Iterable[str]) -> list[Target]:
    """Several targets, each once; the name `all` stands for every shipped one.

    Raises: as `load_target`.
    """
    chosen = [known for name in names for known in (known_targets() if name == ALL else [name])]
    return [load_target(name) for name in dict.fromkeys(chosen)]


def read_profile(path: Path) -> Mapping[str, Any]:
    """A profile's YAML as it stands.

    Raises: `ConfigError` when it is no YAML mapping, or its name cannot be a target's.
    """
    if not _NAME.fullmatch(path.stem):
        raise ConfigError(f"{path}: a target's file name is letters, digits, '_', '-' and '.'")
    return load_mapping(path)


def profile_path(name: str | Path) -> Path:
    """Where a target's profile is.

    Raises: `ConfigError` for an unknown target.
    """
    name = str(name)
    if name in known_targets():
        return shipped(_KIND, name)
    path = Path(name).expanduser()
    if path.suffix in _SUFFIXES or path.parent != Path("."):
        if path.is_file():
            return path
        raise ConfigError(f"no such target file: {name}; shipped targets: {_listing(path.stem)}")
    raise ConfigError(
        f"unknown target {name}; known, the nearest first: {_listing(name)}; or name a YAML file of your own"
    )


def _listing(name: str) -> str:
    """Shipped names, the most alike first."""

    def likeness(known: str) -> tuple[float, str]:
        return -difflib.SequenceMatcher(None, name.lower(), known.lower()).ratio(), known

    return ", ".join(sorted(known_targets(), key=likeness))


def _target(name: str, values: Mapping[str, Any], path: Path) -> Target:
    where = str(path)
    if "name" in values:
        raise ConfigError(f"{where}: unknown key name: the file's own name is the target's")
    given = _fields(Target, {**values, "name": name}, where)
    parts = {
        "driver": Driver,
        "paddle_lite": PaddleLite,
        "quantization": QuantizationRules,
        "arithmetic": Arithmetic,
    }
    for key, kind in parts.items():
        if key in ("paddle_lite", "arithmetic") and given[key] is None:
            continue
        below = f"{where}: {key}"
        values = _fields(kind, _mapping(given[key], below), below)
        if key == "paddle_lite":
            values["operators"] = load_operators(values["operators"], path, f"{below}: operators")
        if key == "quantization":
            values["needs_scales"] = _names(values["needs_scales"], f"{below}: needs_scales")
        given[key] = kind(**values)
    rules: QuantizationRules = given["quantization"]
    if not rules.symmetric:
        LOG.info("%s takes asymmetric numbers; picoquant makes symmetric ones, which are among them", name)
    _one_of(rules.weights, WEIGHTS, f"{where}: quantization: weights")
    if given["arithmetic"] is not None:
        allowed = {"numbers": NUMBERS, "rounding": ROUNDINGS, "multiplier_bits": MULTIPLIER_BITS}
        for key, values in allowed.items():
            _one_of(getattr(given["arithmetic"], key), values, f"{where}: arithmetic: {key}")
    _one_of(given["abi"], ABIS, f"{where}: abi")
    kernels = given["kernels"]
    if not isinstance(kernels, list) or not all(isinstance(kernel, str) for kernel in kernels):
        raise ConfigError(f"{where}: kernels: a list of texts expected, found {kernels!r}")
    given["kernels"] = tuple(kernels)
    given["environment"] = _environment(given["environment"], f"{where}: environment")
    given["latency_ms"] = _latencies(given["latency_ms"], f"{where}: latency_ms")
    return Target(**given)


# What a key's annotation asks of its value; composed values are checked where they are built.
_KINDS = {
    "str": ((str,), "text"),
    "float | None": ((int, float, type(None)), "a number or null"),
    "int": ((int,), "a whole number"),
    "bool": ((bool,), "true or false"),
}


def _fields(kind: type, values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The values of a dataclass's fields, none missing, none unknown, of the plain types asked for."""
    wanted = {field.name: field.type for field in fields(kind)}
    for key in values:
        if key not in wanted:
            raise unknown_key(where, str(key), set(wanted) - {"name"})
    for key, annotation in wanted.items():
        if key not in values:
            raise ConfigError(f"{where}: key {key} is missing")
        value = values[key]
        kinds, called = _KINDS.get(annotation, ((object,), ""))
        wrong_truth = isinstance(value, bool) and bool not in kinds  # to Python, True is a number
        if called and (wrong_truth or not isinstance(value, kinds)):
            raise ConfigError(f"{where}: {key}: {called} expected, found {value!r}")
    return dict(values)


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
