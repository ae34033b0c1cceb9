"""Pretrained encoders by way of transformers: Whisper, wav2vec 2.0 (XLS-R, MMS) and w2v-BERT 2.0.

Each gives what an encoder of ours gives: states, and how many of them there will be, of an utterance alone whatever
else is in its batch. Weights are read from safetensors, or from older files with torch's `weights_only`.
"""

import hashlib
from pathlib import Path
from typing import Any, Final

import torch
import torch.nn.functional as F
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from torch import Tensor, nn

from xlst_ray.errors import ConfigError, DataError
from xlst_ray.model._transformers import AutoModel, PreTrainedModel
from xlst_ray.model.encoders import Encoded
from xlst_ray.model.frontend import CONFIG, EXTRACTOR, Frontend, Kind, read_frontend
from xlst_ray.model.layers import valid
from xlst_ray.shards.states import STATES_PER_SECOND

_SAFE: Final = ("*.safetensors", "*.safetensors.index.json")
_OLD: Final = ("pytorch_model*.bin", "pytorch_model.bin.index.json")
_UNUSED: Final = ("masked_spec_embed",)  # of their own pre-training alone: a checkpoint may lack it


class PretrainedEncoder(nn.Module):
    """An encoder with its own features.

    Attributes:
        frontend: makes the features.
        body: transformers' encoder. layers: its Transformer or Conformer layers, the lowest first.
        dim: D of the states.
    """

    def __init__(self, body: PreTrainedModel, frontend: Frontend) -> None:
        super().__init__()
        self.body: Any = body
        self.frontend = frontend
        self.dim = int(body.config.hidden_size)

    @property
    def layers(self) -> nn.ModuleList:
        found: nn.ModuleList = self.body.layers if self.frontend.kind == "whisper" else self.body.encoder.layers
        return found

    def forward(self, features: Tensor, lengths: Tensor) -> Encoded:
        """(B, T, F), zero behind each utterance's end, lengths (B) in frames -> states (B, S, D), lengths (B)."""
        raise NotImplementedError

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """States (B) of utterances of `lengths` frames (B)."""
        raise NotImplementedError


class WhisperEncoder(PretrainedEncoder):
    """Whisper's encoder on utterances of their true length.

    Whisper pads every recording to 30 s and attends to the silence, too. Here the table of positions is cut to the
    utterance, and padding is not attended to: the states differ a little from Whisper's own, and cost a tenth.
    """

    def forward(self, features: Tensor, lengths: Tensor) -> Encoded:
        body, steps = self.body, self.output_lengths(lengths)
        longest, most = (features.shape[1] + 1) // 2, body.embed_positions.num_embeddings
        if longest > most:
            raise DataError(
                f"an utterance lasts {longest / STATES_PER_SECOND:.1f} s, Whisper reads {most / STATES_PER_SECOND:g} s",
                hint="leave longer ones out with shards.max_seconds of jobs/prepare.py",
            )
        x = F.gelu(body.conv1(features.transpose(1, 2)))
        x = x.masked_fill(~valid(lengths, x.shape[2])[:, None], 0.0)
        x = F.gelu(body.conv2(x)).transpose(1, 2) + body.embed_positions.weight[:longest]
        x = F.dropout(x, body.dropout, self.training)
        mask = None
        if int(steps.min()) < longest:
            hidden = ~valid(steps, longest)[:, None, None]
            mask = torch.zeros(hidden.shape, dtype=x.dtype, device=x.device).masked_fill(hidden, -torch.inf)
            mask = mask.expand(-1, -1, longest, -1)
        for layer in body.layers:
            x = layer(x, mask)
        return Encoded(body.layer_norm(x), steps)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        return (lengths + 1) // 2


class Wav2VecEncoder(PretrainedEncoder):
    """wav2vec 2.0 and what has its layout: XLS-R, MMS."""

    def forward(self, features: Tensor, lengths: Tensor) -> Encoded:
        steps, waves = self.output_lengths(lengths), features.flatten(1)
        if self.body.config.feat_extract_norm == "group":  # over time: padding would count
            sizes = (lengths * self.frontend.dim).tolist()
            rows = [self._convolved(wave[None, :size])[0] for wave, size in zip(waves, sizes, strict=True)]
            x = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        else:
            x = self._convolved(waves)
        x, _ = self.body.feature_projection(x)
        mask = valid(steps, x.shape[1]) if int(steps.min()) < x.shape[1] else None
        return Encoded(self.body.encoder(x, attention_mask=mask).last_hidden_state, steps)

    def _convolved(self, waves: Tensor) -> Tensor:
        found: Tensor = self.body.feature_extractor(waves).transpose(1, 2)
        return found

    def output_lengths(self, lengths: Tensor) -> Tensor:
        steps: Tensor = self.body._get_feat_extract_output_lengths(lengths * self.frontend.dim)
        return steps.clamp(min=0)


class Wav2VecBertEncoder(PretrainedEncoder):
    """w2v-BERT 2.0, which reads two frames at a time."""

    def forward(self, features: Tensor, lengths: Tensor) -> Encoded:
        batch, frames, dim = features.shape
        x, steps = features[:, : frames // 2 * 2].reshape(batch, frames // 2, 2 * dim), self.output_lengths(lengths)
        x, _ = self.body.feature_projection(x)
        mask = valid(steps, x.shape[1]) if int(steps.min()) < x.shape[1] else None
        return Encoded(self.body.encoder(x, attention_mask=mask).last_hidden_state, steps)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        return lengths // 2


_ENCODERS: Final[dict[Kind, type[PretrainedEncoder]]] = {
    "whisper": WhisperEncoder,
    "wav2vec2": Wav2VecEncoder,
    "wav2vec2-bert": Wav2VecBertEncoder,
}


def find_pretrained(name: str, revision: str | None = None) -> Path:
    """The local folder of an encoder: itself, or the copy of a repository on the Hugging Face Hub.

    Raises:
        DataError: it is neither here nor there.
    """
    if Path(name).expanduser().is_dir():
        return Path(name).expanduser()
    try:
        found = Path(snapshot_download(name, revision=revision, allow_patterns=[CONFIG, EXTRACTOR, *_SAFE]))
        if not any(found.glob("*.safetensors")):
            found = Path(snapshot_download(name, revision=revision, allow_patterns=[CONFIG, EXTRACTOR, *_OLD]))
    except (OSError, HfHubHTTPError, HFValidationError, LocalEntryNotFoundError) as error:
        raise DataError(
            f"cannot be had ({str(error).splitlines()[0]})",
            where=name,
            hint="name the folder of an encoder, or a repository of the Hugging Face Hub such as openai/whisper-base",
        ) from None
    return found


def fingerprint_of(folder: Path) -> str:
    """12 hexadecimal digits of the SHA-256 of all that an encoder is: configuration, extractor, weights."""
    digest = hashlib.sha256()
    for pattern in (CONFIG, EXTRACTOR, *(_SAFE if any(folder.glob("*.safetensors")) else _OLD)):
        for path in sorted(folder.glob(pattern)):
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:12]


def load_pretrained(folder: Path, layers: int | None = None) -> PretrainedEncoder:
    """The encoder of a local folder, or its lowest `layers`, on the CPU, in evaluation mode.

    Raises:
        DataError: it cannot be read, lacks weights, or is of a family that is not known here.
        ConfigError: it has fewer layers.
    """
    frontend = read_frontend(folder)
    try:
        whole, facts = AutoModel.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, attn_implementation="sdpa", output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"cannot be read as an encoder ({error})", where=str(folder)) from None
    body = whole.get_encoder() if frontend.kind == "whisper" else whole
    encoder = _ENCODERS[frontend.kind](body, frontend)
    own = {name.removeprefix("body.") for name in encoder.state_dict()}
    missing = {name.removeprefix("encoder.") if frontend.kind == "whisper" else name for name in facts["missing_keys"]}
    if lacking := sorted((own & missing) - set(_UNUSED)):
        raise DataError(f"lacks weights of the encoder: {', '.join(lacking[:3])} ...", where=str(folder))
    return _cut(encoder, layers, where=str(folder))


def _cut(encoder: PretrainedEncoder, layers: int | None, where: str) -> PretrainedEncoder:
    if getattr(encoder.body.config, "add_adapter", False):
        raise DataError("has an adapter behind its layers, for which there is no place here", where=where)
    if layers is not None and layers > len(encoder.layers):
        raise ConfigError(f"has {len(encoder.layers)} layers, not {layers}", where=where)
    if layers is not None:
        del encoder.layers[layers:]
    # Theirs draw from generators of their own, so that a resumed run would differ; masks are the loader's work.
    encoder.body.config.apply_spec_augment = False
    for holder in (encoder.body, encoder.body.config):  # Whisper reads it here, the others there
        holder.layerdrop = 0.0
    return encoder.eval()
