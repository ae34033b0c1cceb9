"""Pretrained encoders by way of transformers: Whisper, wav2vec 2.0 (XLS-R, MMS) and w2v-BERT 2.0.

Each gives what an encoder of ours gives: states, and how many of them there will be, of an utterance alone whatever
else is in its batch. Weights are read from safetensors, or from older files with torch's `weights_only`.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
import torch.nn.functional as F
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError
from torch import Tensor, nn

from xlst_ray.errors import ConfigError, DataError
from xlst_ray.model._transformers import AutoConfig, AutoModel, PreTrainedModel
from xlst_ray.model.encoders import Encoded, PretrainedEncoder
from xlst_ray.model.frontend import CONFIG, EXTRACTOR, Kind, OwnFeatures, read_frontend
from xlst_ray.model.layers import valid
from xlst_ray.shards.states import STATES_PER_SECOND

_SAFE: Final = ("*.safetensors", "*.safetensors.index.json")
_OLD: Final = ("pytorch_model*.bin", "pytorch_model.bin.index.json")
_ATTENTION: Final = "sdpa"
_OF_A_RUN: Final = ("_name_or_path", "transformers_version", "architectures")  # in a configuration


class _Encoder(PretrainedEncoder):
    """What the families share: `body` is transformers' encoder."""

    after: tuple[str, ...] = ()  # prefixes of the body's parameters that lie behind its layers

    def __init__(self, body: PreTrainedModel, frontend: OwnFeatures) -> None:
        super().__init__()
        self.body: Any = body
        self.frontend: OwnFeatures = frontend
        self.input_dim, self.longest = frontend.dim, frontend.longest
        self.dim = int(body.config.hidden_size)

    @property
    def layers(self) -> nn.ModuleList:
        """The Transformer or Conformer layers, the lowest first."""
        found: nn.ModuleList = self.body.layers if self.frontend.kind == "whisper" else self.body.encoder.layers
        return found

    def depth(self, name: str) -> int:
        layer = re.match(r"body\.(?:encoder\.)?layers\.(\d+)\.", name)
        if layer is not None:
            return len(self.layers) - int(layer[1])
        return 1 if name.startswith(self.after) else len(self.layers) + 1

    def description(self) -> dict[str, Any]:
        config = {name: value for name, value in self.body.config.to_dict().items() if name not in _OF_A_RUN}
        extractor = {"kind": self.frontend.kind, "settings": dict(self.frontend.settings)}
        return {"config": config, "frontend": extractor, "layers": len(self.layers), "frozen": self.frozen}


class WhisperEncoder(_Encoder):
    """Whisper's encoder on utterances of their true length.

    Whisper pads every recording to 30 s and attends to the silence, too. Here the table of positions is cut to the
    utterance, and padding is not attended to. The states are others than Whisper's own: on six Dutch clips of 2 to 4 s
    (Whisper-base, November 2026) their mean cosine is 0.86, and they cost a tenth of the time.
    """

    after = ("body.layer_norm.",)

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


class Wav2VecEncoder(_Encoder):
    """wav2vec 2.0 and what has its layout: XLS-R, MMS."""

    @property
    def after(self) -> tuple[str, ...]:  # type: ignore[override]  # a constant elsewhere
        return ("body.encoder.layer_norm.",) if self.body.config.do_stable_layer_norm else ()

    def forward(self, features: Tensor, lengths: Tensor) -> Encoded:
        steps, waves = self.output_lengths(lengths), features.flatten(1)
        if self.body.config.feat_extract_norm == "group":  # over time: padding would count
            sizes = (lengths * self.input_dim).tolist()
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
        steps: Tensor = self.body._get_feat_extract_output_lengths(lengths * self.input_dim)
        return steps.clamp(min=0)


class Wav2VecBertEncoder(_Encoder):
    """w2v-BERT 2.0, which reads two frames at a time."""

    def forward(self, features: Tensor, lengths: Tensor) -> Encoded:
        batch, frames, dim = features.shape
        x, steps = features[:, : frames // 2 * 2].reshape(batch, frames // 2, 2 * dim), self.output_lengths(lengths)
        x, _ = self.body.feature_projection(x)
        mask = valid(steps, x.shape[1]) if int(steps.min()) < x.shape[1] else None
        return Encoded(self.body.encoder(x, attention_mask=mask).last_hidden_state, steps)

    def output_lengths(self, lengths: Tensor) -> Tensor:
        return lengths // 2


_ENCODERS: Final[dict[Kind, type[_Encoder]]] = {
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
            folder, dtype=torch.float32, local_files_only=True, attn_implementation=_ATTENTION, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(f"cannot be read as an encoder ({error})", where=str(folder)) from None
    encoder = _encoder(whole, frontend)
    above = "encoder." if frontend.kind == "whisper" else ""
    missing = {f"body.{name.removeprefix(above)}" for name in facts["missing_keys"]}
    if lacking := sorted(missing & set(encoder.state_dict())):
        raise DataError(f"lacks weights of the encoder: {', '.join(lacking[:3])} ...", where=str(folder))
    if getattr(encoder.body.config, "add_adapter", False):
        raise DataError("has an adapter behind its layers, for which there is no place here", where=str(folder))
    if layers is not None and layers > len(encoder.layers):
        raise ConfigError(f"has {len(encoder.layers)} layers, not {layers}", where=str(folder))
    del encoder.layers[layers or len(encoder.layers) :]
    return encoder.eval()


def make_pretrained(description: Mapping[str, Any]) -> PretrainedEncoder:
    """An encoder of random weights as `description()` of one tells, in evaluation mode."""
    config = AutoConfig.for_model(**description["config"])
    encoder = _encoder(
        AutoModel.from_config(config, attn_implementation=_ATTENTION), OwnFeatures(**description["frontend"])
    )
    del encoder.layers[description["layers"] :]
    encoder.frozen = description["frozen"]
    return encoder.eval()


def _encoder(whole: Any, frontend: OwnFeatures) -> _Encoder:
    body = whole.get_encoder() if frontend.kind == "whisper" else whole
    # Masks are the loader's work, and layers are not left out: a resume does not restore what these are drawn from.
    body.config.apply_spec_augment = False
    for holder in (body, body.config):  # Whisper reads it here, the others there
        holder.layerdrop = 0.0
    if hasattr(body, "masked_spec_embed"):
        del body.masked_spec_embed
    if frontend.kind == "whisper":  # sinusoids, which Whisper's training left alone
        body.embed_positions.requires_grad_(False)
    return _ENCODERS[frontend.kind](body, frontend)
