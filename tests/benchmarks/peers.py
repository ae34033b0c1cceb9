"""Peers that may be missing: a side is left out, and the table says so."""

import importlib
from importlib.metadata import version
from types import ModuleType

import xlst_ray.audio._torchaudio  # noqa: F401  lets peers import torchaudio beside a CPU build of torch


def peer(module: str, package: str) -> tuple[ModuleType | None, str]:
    """The module, or none with a printed line, and the peer's name with its version."""
    try:
        return importlib.import_module(module), f"{package} {version(package)}"
    except ImportError:
        print(f"{package} is not installed and not measured: pip install -e '.[bench]'")
        return None, package
