"""`s2t_transformer` (Wang et al. 2020, fairseq S2T), parameter for parameter, with an optional CTC head.

The encoder may be another one (`encoders.py`).

With a Transformer encoder the state dict is that of transformers' `Speech2TextForConditionalGeneration` without the
prefix `model.`; the CTC head (`ctc.*`) is ours.
"""

import math
from collections.abc import Iterable
from typing import Final, NamedTuple, cast

import torch
from torch import Tensor, nn

from xlst_ray.errors import ConfigError
from xlst_ray.model.attention import KeysValues
from xlst_ray.model.cache import DecoderCache
from xlst_ray.model.dropout import Dropout
from xlst_ray.model.encoders import Encoded, Frontend, PretrainedEncoder, SpeechEncoder, StackedEncoder, make_encoder
from xlst_ray.model.layers import DecoderLayer, positions, valid
from xlst_ray.model.linear import LayerNorm, Linear, linear
from xlst_ray.model.options import Architecture
from xlst_ray.text.ids import PAD

VOCABULARY_ROWS: Final = ("decoder.embed_tokens.weight", "ctc.weight", "ctc.bias")
"""Parameters with a row for each token: they move between vocabularies by token."""


class Output(NamedTuple):
    """Logits of the decoder (B, U, V), of the CTC head (B, S, V) where there is one, and encoder steps (B)."""

    logits: Tensor
    ctc_logits: Tensor | None
    encoded_lengths: Tensor


class Decoder(nn.Module):
    """Embedding, positions, layers, a last norm; the embedding is the output projection too."""

    def __init__(self, architecture: Architecture, vocabulary_size: int) -> None:
        super().__init__()
        self.scale = math.sqrt(architecture.dim)
        self.embed_tokens = nn.Embedding(vocabulary_size, architecture.dim, PAD)
        nn.init.normal_(self.embed_tokens.weight, std=architecture.dim**-0.5)
        nn.init.zeros_(self.embed_tokens.weight[PAD])
        self.dropout = Dropout(architecture.dropout)
        self.layers = nn.ModuleList(DecoderLayer(architecture) for _ in range(architecture.decoder_layers))
        self.layer_norm = LayerNorm(architecture.dim)

    def forward(self, tokens: Tensor, encoded: Encoded) -> Tensor:
        """Teacher forced: (B, U) tokens, each seen from itself on -> logits of the next (B, U, V)."""
        count = tokens.shape[1]
        mask = torch.ones(count, count, dtype=torch.bool, device=tokens.device).tril()
        encoded_mask = valid(encoded.lengths, encoded.states.shape[1])[:, None, None]
        x = self._embed(tokens)
        x = self.dropout(x + positions(0, count, x))
        for layer, attended in zip(self.layers, self._attended(encoded), strict=True):
            x = layer(x, mask, attended, encoded_mask)
        return self._project(x)

    def start(self, encoded: Encoded, beams: int) -> DecoderCache:
        """An empty cache for `beams` hypotheses of each utterance."""
        mask = valid(encoded.lengths, encoded.states.shape[1])[:, None, None]
        return DecoderCache(self._attended(encoded), mask, beams)

    def step(self, tokens: Tensor, cache: DecoderCache) -> Tensor:
        """The newest token of each hypothesis (B, K) -> logits of the next (B, K, V). Extends the cache."""
        x = self._embed(tokens)
        x = x + positions(cache.steps, 1, x)
        mask = cache.extend()
        for number, layer in enumerate(self.layers):
            x = layer(x, mask, cache.encoded[number], cache.encoded_mask, cache.past(number))
        return self._project(x)

    def _attended(self, encoded: Encoded) -> list[KeysValues]:
        layers = cast("Iterable[DecoderLayer]", self.layers)
        return [layer.encoder_attn.keys_values(encoded.states) for layer in layers]

    def _embed(self, tokens: Tensor) -> Tensor:
        embedded: Tensor = self.embed_tokens(tokens) * self.scale
        return embedded

    def _project(self, x: Tensor) -> Tensor:
        return linear(self.layer_norm(x), self.embed_tokens.weight)


class S2TModel(nn.Module):
    """Speech to text: encoder, decoder and, where the architecture says so, a CTC head on the encoder.

    Args:
        architecture: resolved figures (`ModelOptions.architecture`).
        vocabulary_size: V, the four special tokens included.
        input_dim: F, mel bins of a frame.
        pretrained: an encoder below the architecture's, which reads features of its own; `input_dim` is theirs then.
    """

    encoder: SpeechEncoder | StackedEncoder

    def __init__(
        self,
        architecture: Architecture,
        vocabulary_size: int,
        input_dim: int = 80,
        pretrained: PretrainedEncoder | None = None,
    ) -> None:
        super().__init__()
        self.architecture = architecture
        self.vocabulary_size = vocabulary_size
        if pretrained is None:
            self.input_dim, self.encoder = input_dim, make_encoder(architecture, input_dim)
        else:
            self.input_dim = pretrained.input_dim
            self.encoder = StackedEncoder(pretrained, make_encoder(architecture, pretrained.dim))
        self.decoder = Decoder(architecture, vocabulary_size)
        self.ctc = Linear(architecture.dim, vocabulary_size) if architecture.ctc else None

    @property
    def pretrained(self) -> PretrainedEncoder | None:
        return self.encoder.pretrained if isinstance(self.encoder, StackedEncoder) else None

    @property
    def frontend(self) -> Frontend | None:
        """What makes the features that the model reads of a wave; none: filterbanks, normalised."""
        return None if self.pretrained is None else self.pretrained.frontend

    @property
    def longest(self) -> int | None:
        """Samples of an utterance that are heard; none: all."""
        return None if self.pretrained is None else self.pretrained.longest

    def forward(self, features: Tensor, lengths: Tensor, tokens: Tensor) -> Output:
        """Features (B, T, F) of lengths (B) and decoder inputs (B, U), `</s>` first -> `Output`."""
        encoded = self.encode(features, lengths)
        ctc_logits = None if self.ctc is None else self.ctc_logits(encoded)
        return Output(self.decode(tokens, encoded), ctc_logits, encoded.lengths)

    def encode(self, features: Tensor, lengths: Tensor) -> Encoded:
        """(B, T, F), (B) in frames -> states (B, S, D), lengths (B) in encoder steps."""
        encoded: Encoded = self.encoder(features, lengths)
        return encoded

    def decode(self, tokens: Tensor, encoded: Encoded) -> Tensor:
        """Teacher forced: decoder inputs (B, U), `</s>` first -> logits (B, U, V)."""
        logits: Tensor = self.decoder(tokens, encoded)
        return logits

    def ctc_logits(self, encoded: Encoded) -> Tensor:
        """(B, S, D) -> (B, S, V). Raises `ConfigError` where the model has no CTC head."""
        if self.ctc is None:
            raise ConfigError("the model has no CTC head", hint="train it with model.ctc=true")
        logits: Tensor = self.ctc(encoded.states)
        return logits

    def output_lengths(self, lengths: Tensor) -> Tensor:
        """Encoder steps (B) of utterances of `lengths` frames (B)."""
        return self.encoder.output_lengths(lengths)
