"""The single door to torchaudio.

Its wheel is linked against CUDA, so beside a CPU build of torch `import torchaudio` ends in an OSError although all we
use of it is Python. Then, and only then, a stub takes the place of its compiled extension. Imported by name in every
process that needs it, Ray workers included.
"""

import importlib
import sys
from types import ModuleType
from typing import NoReturn

import torch


def _unavailable(*_: object) -> NoReturn:
    raise RuntimeError("torchaudio's compiled extension is not available beside this build of torch")


def _extension_stub() -> ModuleType:
    stub = ModuleType("torchaudio._extension")
    names = {
        "_IS_TORCHAUDIO_EXT_AVAILABLE": False,
        "_IS_ALIGN_AVAILABLE": False,
        "_load_lib": lambda _name: False,
        "_check_cuda_version": lambda: None,
        "fail_if_no_align": lambda _function: _unavailable,
    }
    for name, value in names.items():
        setattr(stub, name, value)
    return stub


try:
    import torchaudio  # noqa: F401
except OSError:
    if torch.version.cuda is not None:
        raise
    sys.modules["torchaudio._extension"] = _extension_stub()

functional = importlib.import_module("torchaudio.functional")
kaldi = importlib.import_module("torchaudio.compliance.kaldi")
