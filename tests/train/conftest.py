"""Makes `tones` and `processes` importable; recordings of tones to train on."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

TEXTS = ["ab", "cdefg", "h", "bad", "face", "gh", "fed", "cabbage"]


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """So small a model is slower on two, and only on one is a sum the same each time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Eight utterances to train on; the same to validate on."""
    import tones

    folder = tmp_path_factory.mktemp("shards")
    tones.write_shards(folder, "dev", TEXTS)
    return tones.write_shards(folder, "train", TEXTS)
