"""SpeechBrain's Transformer with the weights of a model of ours, behind our subsampler, so that it has the same loss.

Its input layer, which it always has, multiplies by the root of D there; ours does without one.
"""

import copy

import torch
from torch import Tensor, nn

from xlst_ray.model.layers import positions
from xlst_ray.model.s2t import S2TModel

_SHARED = {"fc1": "pos_ffn.ffn.0", "fc2": "pos_ffn.ffn.3"}
_ENCODER = {
    **_SHARED,
    "self_attn": "self_att.att",
    "self_attn_layer_norm": "norm1.norm",
    "final_layer_norm": "norm2.norm",
}
_DECODER = {
    **_SHARED,
    "self_attn": "self_attn.att",
    "encoder_attn": "multihead_attn.att",
    "self_attn_layer_norm": "norm1.norm",
    "encoder_attn_layer_norm": "norm2.norm",
    "final_layer_norm": "norm3.norm",
}


class SpeechBrainModel(nn.Module):
    """`TransformerASR` as SpeechBrain's recipes call it, its output layer tied to its embedding as ours is.

    forward: features (B, T, F) of full length, decoder inputs (B, U) -> log-probabilities (B, U, V).
    """

    def __init__(self, model: S2TModel) -> None:
        from speechbrain.lobes.models.transformer.TransformerASR import TransformerASR
        from speechbrain.nnet.linear import Linear

        super().__init__()
        a = model.architecture
        self.subsampler = copy.deepcopy(model.encoder.conv)
        self.transformer = TransformerASR(
            tgt_vocab=model.vocabulary_size,
            input_size=a.dim,
            d_model=a.dim,
            nhead=a.heads,
            num_encoder_layers=a.encoder_layers,
            num_decoder_layers=a.decoder_layers,
            d_ffn=a.ffn_dim,
            dropout=a.dropout,
            normalize_before=True,
            causal=False,
        )
        self.output = Linear(input_size=a.dim, n_neurons=model.vocabulary_size, bias=False)
        self.output.w.weight = self.transformer.custom_tgt_module.layers[0].emb.Embedding.weight
        self._take(model)

    def forward(self, features: Tensor, tokens: Tensor) -> Tensor:
        lengths = torch.full((len(features),), features.shape[1])
        states, _ = self.subsampler(features, lengths)
        _, decoded = self.transformer(states, tokens, wav_len=torch.ones(len(features)), pad_idx=1)
        return self.output(decoded).log_softmax(-1)

    @torch.no_grad()
    def _take(self, model: S2TModel) -> None:
        """The weights, positions and epsilons of ours."""
        theirs = self.transformer
        front = theirs.custom_src_module.layers[0].w
        front.weight.copy_(torch.eye(front.weight.shape[0]) * model.encoder.scale)
        front.bias.zero_()
        table = theirs.positional_encoding.pe
        table.copy_(positions(0, table.shape[1], table)[None])
        theirs.custom_tgt_module.layers[0].emb.Embedding.weight.copy_(model.decoder.embed_tokens.weight)
        for names, ours, its in ((_ENCODER, model.encoder, theirs.encoder), (_DECODER, model.decoder, theirs.decoder)):
            its.norm.norm.load_state_dict(ours.layer_norm.state_dict())
            for one, other in zip(ours.layers, its.layers, strict=True):
                for name, its_name in names.items():
                    part = one.get_submodule(name)
                    weights = _packed(part) if name.endswith("attn") else part.state_dict()
                    other.get_submodule(its_name).load_state_dict(weights)
        for part in theirs.modules():
            if isinstance(part, nn.LayerNorm):
                part.eps = 1e-5


def _packed(attention: nn.Module) -> dict[str, Tensor]:
    """Attention's parameters as torch's `MultiheadAttention` has them."""
    parts = [attention.q_proj, attention.k_proj, attention.v_proj]
    return {
        "in_proj_weight": torch.cat([part.weight for part in parts]),
        "in_proj_bias": torch.cat([part.bias for part in parts]),
        "out_proj.weight": attention.out_proj.weight,
        "out_proj.bias": attention.out_proj.bias,
    }
