"""The house keeps its own rules: tree, direction of imports, sizes, public names, light import."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "holdfast"
MEASURED = ("holdfast", "benchmarks", "examples", "tests")
LONGEST_FILE = 500
LONGEST_FUNCTION = 60

PUBLIC = [
    "Cell",
    "absolute",
    "cell",
    "cells",
    "cos",
    "cumulate",
    "diagnose",
    "exp",
    "floor",
    "hard_sigmoid",
    "hard_tanh",
    "log",
    "maximum",
    "mean",
    "minimum",
    "nn",
    "normalize",
    "peak",
    "real",
    "relu",
    "remain",
    "sigmoid",
    "sin",
    "softplus",
    "sqrt",
    "square",
    "tanh",
    "turn",
    "where",
]


def _python_files(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).rglob("*.py"))


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _tree() -> list[str]:
    """The files that docs/layout.md lists, in its order, as paths from the root.

    A folder of which it lists no file stands for all that it holds.
    """
    page = (ROOT / "docs" / "layout.md").read_text(encoding="utf-8")
    block = re.search(r"^```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert block, "docs/layout.md has no ```text block with the tree"
    paths, folders = [], []
    for line in filter(str.strip, block[1].splitlines()):
        depth, entry = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        del folders[depth:]
        paths.append("".join(folders) + entry)
        if entry.endswith("/"):
            folders.append(entry)
    files = []
    for path, after in zip(paths, [*paths[1:], ""], strict=True):
        if not path.endswith("/"):
            files.append(path)
        elif not after.startswith(path):
            files += map(_name, _python_files(path))
    return files


def test_the_layout_page_is_the_tree() -> None:
    listed = _tree()
    assert len(set(listed)) == len(listed), "docs/layout.md lists a file twice"
    gone = sorted(file for file in listed if not (ROOT / file).is_file())
    there = map(_name, _python_files("holdfast", "benchmarks", "examples"))
    assert not gone, f"docs/layout.md lists files that do not exist: {gone}"
    assert not (unlisted := sorted(set(there) - set(listed))), f"not in docs/layout.md: {unlisted}"


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that runs: what stands under `if TYPE_CHECKING:` does not."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        yield node
        yield from _nodes(node)


def _imports(path: Path) -> Iterator[tuple[int, str, list[str]]]:
    """Every import of a file, at its top or inside a function: line, module and the names taken."""
    package = _module(path).split(".")[: None if path.name == "__init__.py" else -1]
    for node in _nodes(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name, []) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            yield node.lineno, module, [alias.name for alias in node.names]


def _positions() -> dict[str, float]:
    """Where each module stands in docs/layout.md; a package stands behind all that it holds."""
    order = [_module(ROOT / file) for file in _tree() if file.endswith(".py")]
    last = {}
    for place, module in enumerate(order):
        while module:
            last[module] = place
            module = module.rpartition(".")[0]
    packages = {_module(ROOT / file) for file in _tree() if file.endswith("__init__.py")}
    return {module: last[module] + 0.5 * (module in packages) for module in order}


def _imported_modules(path: Path, known: dict[str, float]) -> Iterator[tuple[int, str]]:
    for line, module, names in _imports(path):
        if not re.match(r"holdfast(\.|$)", module):
            continue
        inner = [f"{module}.{name}" for name in names]
        yield from ((line, name) for name in inner if name in known)
        # The version is a constant, which a function anywhere may want to write down.
        own = [name for name in names if f"{module}.{name}" not in known and name != "__version__"]
        if own or not names:
            yield line, module


@pytest.mark.parametrize("path", _python_files("holdfast"), ids=_name)
def test_imports_point_upward_only(path: Path) -> None:
    known = _positions()
    assert _module(path) in known, f"{_name(path)} is not in docs/layout.md"
    here = known[_module(path)]
    for line, module in _imported_modules(path, known):
        assert module in known, f"{_name(path)}:{line} imports {module}, which docs/layout.md lacks"
        assert known[module] < here, (
            f"{_name(path)}:{line} imports {module}, which stands below it in docs/layout.md"
        )


@pytest.mark.parametrize("path", _python_files("holdfast/cells"), ids=_name)
def test_cells_import_nothing_but_the_cell_language(path: Path) -> None:
    language = {f"holdfast.compiler.{name}" for name in ("cell", "ops", "tie")}
    language |= {"__future__", "collections.abc", "math", "typing"}
    if path.name == "__init__.py":
        language |= {"functools", "importlib", "pkgutil", "sys", "types"}
    strange = [f"{line}: {module}" for line, module, _ in _imports(path) if module not in language]
    assert not strange, f"{_name(path)} imports more than the cell language: {strange}"


def _without_docstring(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    length = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        length -= (first.end_lineno or first.lineno) - first.lineno + 1
    if function.name == "__init__":
        # An estimator names every setting and keeps it under that name, as scikit-learn asks.
        length -= sum(
            isinstance(line, ast.Assign)
            and isinstance(line.value, ast.Name)
            and ast.unparse(line.targets[0]) == f"self.{line.value.id}"
            for line in function.body
        )
    return length


@pytest.mark.parametrize("path", _python_files(*MEASURED), ids=_name)
def test_files_and_functions_stay_small(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    lines = source.count("\n")
    assert lines <= LONGEST_FILE, f"{_name(path)} has {lines} lines; {LONGEST_FILE} is the most"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = _without_docstring(node)
            assert length <= LONGEST_FUNCTION, (
                f"{_name(path)}:{node.lineno} {node.name} has {length} lines; "
                f"{LONGEST_FUNCTION} is the most"
            )


def test_public_names_are_the_promised_ones() -> None:
    holdfast = importlib.import_module("holdfast")
    assert sorted(holdfast.__all__) == sorted(PUBLIC)
    assert [name for name in PUBLIC if not hasattr(holdfast, name)] == []


def _loaded_by(statement: str) -> set[str]:
    script = (
        f"import sys\n{statement}\n"
        "print(*{name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(result.stdout.split())


def test_import_is_light() -> None:
    base = _loaded_by("import torch, torch.library, llvmlite.binding, numpy, safetensors.torch")
    assert _loaded_by("import holdfast") - base == {"holdfast"}


def test_versions_agree() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[(\d[^\]]*)\]", changelog, re.MULTILINE)
    assert newest, "CHANGELOG.md has no `## [version]` heading"
    assert newest[1] == project["version"]
    assert importlib.import_module("holdfast").__version__ == project["version"]


def _tracked() -> list[Path]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listing.returncode:
        pytest.skip("not a git checkout, so there is no list of the project's files")
    files = [ROOT / name for name in listing.stdout.split("\0") if name]
    return [file for file in files if file.is_file()]


def test_files_name_no_machine_and_no_package_index() -> None:
    hosts = [
        ".".join(parts)
        for parts in (("pypi", "org"), ("pythonhosted", "org"), ("download", "pytorch", "org"))
    ]
    paths = [f"/{name}/" for name in ("work", "root")]
    words = re.compile("|".join(map(re.escape, [*hosts, *paths])).encode())
    found = [
        f"{_name(file)}: {match[0].decode()}"
        for file in _tracked()
        for match in words.finditer(file.read_bytes())
    ]
    assert not found
