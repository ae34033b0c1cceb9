"""Ids of the special tokens, in fairseq's order (`<s>` 0, `<pad>` 1, `</s>` 2, `<unk>` 3)."""

from typing import Final

BOS: Final = 0
PAD: Final = 1
EOS: Final = 2  # ends a sentence, and starts the decoder, as in fairseq
UNK: Final = 3
BLANK: Final = BOS  # CTC's blank: `<s>` is never a target, so its row is free
SPECIALS: Final = ("<s>", "<pad>", "</s>", "<unk>")
