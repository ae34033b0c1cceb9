"""A model whose parameters, gradients and moments are shared out among the processes (FSDP2), and its checkpoints.

For what is too large for one GPU. Each layer of the encoder is gathered when it computes, the decoder as a whole.
Torch's distributed checkpoints are written by all processes, as safetensors, and read by any number of them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from xlst_ray.model.s2t import Decoder

SHARDS: Final = "shards"  # folder of a checkpoint


def shard(model: nn.Module, device: torch.device) -> None:
    """Share a model out among all processes, in place; each keeps its part on its device."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for part in [*_parts(model), model]:
        fully_shard(part, mesh=mesh)


def _parts(model: nn.Module) -> Iterator[nn.Module]:
    """What is gathered at a time. A decoder is one part: its layers give their keys before they are called."""
    decoders = [(name, module) for name, module in model.named_modules() if isinstance(module, Decoder)]
    yield from (module for _, module in decoders)
    for name, layers in model.named_modules():
        if name.endswith(".layers") and not any(name.startswith(f"{decoder}.") for decoder, _ in decoders):
            yield from layers.children()


def whole(value: Tensor) -> Tensor:
    """A tensor of which each process may have a part. To be called on all of them."""
    return value.full_tensor() if isinstance(value, DTensor) else value


def local(value: Tensor) -> Tensor:
    """This process' part of a tensor, where it is shared out; its memory is the tensor's."""
    return value.to_local() if isinstance(value, DTensor) else value


def save_shards(folder: Path, values: dict[str, Tensor]) -> None:
    """Write this process' parts of tensors. To be called on all of them, each with a folder of its own or the same."""
    writer = HuggingFaceStorageWriter(str(folder), save_distributed=True)
    save(values, storage_writer=writer, no_dist=not dist.is_initialized())


def load_shards(folder: Path, into: dict[str, Tensor]) -> None:
    """Fill tensors, however they are shared out, with what was saved under their names, by however many processes."""
    load(into, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=not dist.is_initialized())


def read_shards(folder: Path, prefix: str) -> dict[str, Tensor]:
    """The whole tensors whose names begin with a prefix, without it; none where there are none."""
    known = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    into = {
        name: torch.empty(about.size)
        for name, about in known.items()
        if name.startswith(prefix) and isinstance(about, TensorStorageMetadata)
    }
    if into:
        load(into, storage_reader=HuggingFaceStorageReader(str(folder)), no_dist=True)
    return {name.removeprefix(prefix): value for name, value in into.items()}
