"""Imports inside functions are there for weight only, and what is imported exists.

A module that a function imports brings in a heavy package which the importing module does without. Whatever else
is imported stands at the top, where a reader looks for it, and where a wrong name fails at once.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Packages that take a tenth of a second and more to load.
HEAVY = {
    "PIL", "cv2", "faster_coco_eval", "jinja2", "matplotlib", "mlflow", "numpy", "onnx", "onnxruntime", "openvino",
    "paddle", "paddle2onnx", "paddleslim", "pycocotools", "scipy", "tensorboardX", "visualdl", "wandb",
}  # fmt: skip

# (importing module, imported module) -> why the import is inside a function without a heavy package.
ALLOWED: dict[tuple[str, str], str] = {}


def _modules() -> dict[str, Path]:
    """Name -> file of every module of the package."""
    found = {}
    for path in sorted((ROOT / "picoquant").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = _modules()


@lru_cache(None)
def tree(module: str) -> ast.Module:
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


def statements(node: ast.AST, inside: bool = False) -> Iterator[tuple[ast.stmt, bool]]:
    """Every import that runs, and whether it is inside a function; what is for type checkers only does not run."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child, inside
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        else:
            function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from statements(child, inside or function)


def targets(statement: ast.stmt) -> list[str]:
    """The modules that an import loads, without the packages around them."""
    if isinstance(statement, ast.Import):
        return [alias.name for alias in statement.names]
    inner = [f"{statement.module}.{alias.name}" for alias in statement.names]
    return [name for name in inner if name in MODULES] or [statement.module]


@lru_cache(None)
def imports(module: str) -> list[tuple[str, int, bool]]:
    """What a module imports, where, and whether inside a function."""
    return [
        (target, statement.lineno, inside)
        for statement, inside in statements(tree(module))
        for target in targets(statement)
    ]


@lru_cache(None)
def loaded(module: str) -> frozenset[str]:
    """Every module that importing this one loads: the package's own, and others by their first name."""
    found, waiting = set(), [module]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        if name not in MODULES:
            found.add(name.partition(".")[0])
            continue
        found.add(name)
        waiting += [name.rpartition(".")[0]] if "." in name else []
        waiting += [target for target, _, inside in imports(name) if not inside]
    return frozenset(found)


def inside_functions() -> list[tuple[str, str, int]]:
    """Importing module, imported module of ours, and line of every import inside a function."""
    return [
        (module, target, line)
        for module in MODULES
        for target, line, inside in imports(module)
        if inside and target in MODULES
    ]


def has_reason(module: str, target: str) -> bool:
    """Whether an import inside a function keeps weight away from whoever imports the module.

    A command of the command line loads what it runs when it runs, so that --help loads none of it.
    """
    if module.startswith("picoquant.cli."):
        return target not in loaded("picoquant.cli.main")
    return bool((loaded(target) - loaded(module)) & HEAVY)


def test_imports_inside_functions_are_for_weight_only():
    idle = [
        f"{MODULES[module].relative_to(ROOT)}:{line}: {target} brings in nothing heavy: import it at the top"
        for module, target, line in inside_functions()
        if not has_reason(module, target) and (module, target) not in ALLOWED
    ]
    assert not idle, "\n".join(idle)


def test_what_is_allowed_is_needed():
    there = {(module, target) for module, target, _ in inside_functions() if not has_reason(module, target)}
    assert set(ALLOWED) <= there


def test_help_loads_nothing_heavy():
    assert not loaded("picoquant.cli.main") & {*HEAVY, "yaml"}


@lru_cache(None)
def defined(module: str) -> frozenset[str]:
    """Names that a module has: what it defines, assigns or imports outside functions."""
    names = set()
    waiting: list[ast.AST] = [tree(module)]
    while waiting:
        for node in ast.iter_child_nodes(waiting.pop()):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                names.add(node.name)
                continue
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            waiting.append(node)
    return frozenset(names)


@pytest.mark.parametrize("folder", ["picoquant", "tests", "benchmarks"])
def test_what_is_imported_exists(folder):
    """Also where it is imported by a function that no test calls."""
    wrong = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        for statement, _ in statements(ast.parse(path.read_text(encoding="utf-8"))):
            where = f"{path.relative_to(ROOT)}:{statement.lineno}"
            wrong += [f"{where}: there is no {name}" for name in missing(statement)]
    assert not wrong, "\n".join(wrong)


def missing(statement: ast.stmt) -> list[str]:
    """What of an import of ours is not there."""
    if isinstance(statement, ast.Import):
        names = [alias.name for alias in statement.names]
        return [name for name in names if name.partition(".")[0] == "picoquant" and name not in MODULES]
    module = statement.module
    if module.partition(".")[0] != "picoquant":
        return []
    if module not in MODULES:
        return [module]
    names = {alias.name for alias in statement.names} - defined(module)
    return [f"{module}.{name}" for name in names if f"{module}.{name}" not in MODULES]
