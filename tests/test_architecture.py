"""The house: one direction of imports, Ray at its edge, small files and functions."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "xlst_ray"
FILES = sorted(PACKAGE.rglob("*.py"))
JOBS = sorted((ROOT / "jobs").glob("*.py"))

BASE = ("errors", "languages", "plain_yaml", "config", "progress", "storage")
ROOMS = (
    *BASE, "text", "audio", "shards", "demo", "corpora", "batches", "model", "train", "mt", "score", "sweep", "report",
    "cluster", "stages", "recipe",
)  # fmt: skip
ENTRANCE = ("cli",)  # of the jobs: stands on config and errors, and nothing stands on it


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """(module, line) of every import anywhere in a file; `from a import b` as `a.b`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def importers(package: str) -> set[Path]:
    """Files, below the root, that import a package or a part of it."""
    return {
        path.relative_to(ROOT)
        for path in (*FILES, *JOBS)
        if any(name.split(".")[0] == package for name, _ in imports(path))
    }


def test_every_file_is_in_a_room() -> None:
    assert {room(path) for path in FILES} == {*ROOMS, *ENTRANCE, "__init__"}


def test_imports_go_down_one_way() -> None:
    order = {name: place for place, name in enumerate(ROOMS)}
    wrong = [
        f"{path}:{line}: {room(path)} imports {name}"
        for path in FILES
        if room(path) in order
        for name, line in imports(path)
        if name.startswith("xlst_ray.")
        if order.get(name.split(".")[1], len(order)) > order[room(path)]
    ]
    assert not wrong, "\n".join(wrong)


def test_the_entrance_needs_configuration_and_errors_alone() -> None:
    for name in ENTRANCE:
        used = {module.split(".")[1] for module, _ in imports(PACKAGE / f"{name}.py") if module.startswith("xlst_ray.")}
        assert used <= {"config", "errors"}


def test_only_the_cluster_and_jobs_import_ray() -> None:
    found = importers("ray")
    assert found, "the search finds nothing"
    assert all(path.parts[0] == "jobs" or path.parts[:2] == ("xlst_ray", "cluster") for path in found), found


def test_transformers_has_a_door_in_each_room_that_needs_it() -> None:
    assert importers("transformers") == {Path(f"xlst_ray/{room}/_transformers.py") for room in ("mt", "model")}


def test_what_depends_on_the_version_of_vllm_is_imported_in_one_file() -> None:
    parts = [(path, name) for path in (*FILES, *JOBS) for name, _ in imports(path)]
    of_vllm = {path.name for path, name in parts if name.startswith(("vllm.", "ray.data.llm.", "ray.llm."))}
    assert of_vllm == {"llm_engine.py"}


def test_torchaudio_has_one_door() -> None:
    assert importers("torchaudio") == {Path("xlst_ray/audio/_torchaudio.py")}


def test_model_and_training_know_neither_storage_nor_ray() -> None:
    for path in FILES:
        if room(path) in ("model", "train"):
            names = {name for name, _ in imports(path)}
            assert not {name for name in names if name.split(".")[0] == "ray" or name.startswith("xlst_ray.storage")}


PRETRAINED = ("_transformers.py", "frontend.py", "pretrained.py")  # of the model room: other people's encoders


def test_the_model_needs_torch_and_numpy_alone() -> None:
    theirs = tuple(f"xlst_ray.model.{name.removesuffix('.py')}" for name in PRETRAINED)
    for path in FILES:  # where it is imported, it is so within a function
        if room(path) == "model" and path.name not in PRETRAINED:
            top = ast.parse(path.read_text(encoding="utf-8")).body
            assert not [
                node for node in top if isinstance(node, ast.ImportFrom) and str(node.module).startswith(theirs)
            ]
    outside = {
        name.split(".")[0]
        for path in FILES
        if room(path) == "model" and path.name not in PRETRAINED
        for name, _ in imports(path)
        if name.split(".")[0] not in sys.stdlib_module_names
    }
    assert outside <= {"xlst_ray", "torch", "numpy", "safetensors", "pydantic"}


@pytest.mark.parametrize("path", [*FILES, *JOBS], ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_small(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) < (60 if path in JOBS else 400)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            assert (node.end_lineno or 0) - first + 1 < 50, f"{path}:{node.lineno}: {node.name}"


def test_every_module_says_what_it_is_for() -> None:
    silent = [str(path) for path in (*FILES, *JOBS) if ast.get_docstring(ast.parse(path.read_text())) is None]
    assert not silent


def test_no_pickle_is_read() -> None:
    assert not importers("pickle")
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                safe = [key for key in node.keywords if key.arg == "weights_only" and ast.unparse(key.value) == "True"]
                assert safe, f"{path}:{node.lineno}: torch.load without weights_only=True"


WITHOUT = """
import importlib, pkgutil, sys
for name in ("torchaudio", "ray"):
    sys.modules[name] = None  # importing it raises ImportError
import xlst_ray
for room in ("text", "mt", "shards", "storage"):
    module = importlib.import_module(f"xlst_ray.{room}")
    for part in pkgutil.iter_modules(getattr(module, "__path__", [])):
        importlib.import_module(f"xlst_ray.{room}.{part.name}")
print("imported")
"""


def test_text_and_translation_do_without_torchaudio_and_ray() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)
    assert done.stdout == "imported\n", done.stderr
