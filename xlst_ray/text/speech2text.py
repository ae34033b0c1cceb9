"""The tokenizer files of transformers' Speech2Text: a SentencePiece model, and `vocab.json` with the ids of its pieces.

fairseq numbers the pieces anew, so there a piece's id is not its place in the SentencePiece model. Here it is: reading
makes a SentencePiece model of the same pieces and scores, which cuts text alike, in the order of the ids.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from google.protobuf.message import DecodeError
from sentencepiece import sentencepiece_model_pb2 as sentencepiece_proto

from xlst_ray.errors import DataError
from xlst_ray.text.ids import SPECIALS, UNK

PIECES: Final = "sentencepiece.bpe.model"  # so called whatever the kind of the model
IDS: Final = "vocab.json"

_Piece = sentencepiece_proto.ModelProto.SentencePiece


def is_tokenizer(folder: Path) -> bool:
    """Whether a folder holds such a tokenizer."""
    return (folder / IDS).is_file() and (folder / PIECES).is_file()


def read_tokenizer(folder: Path) -> bytes:
    """A SentencePiece model whose pieces have the ids of `vocab.json`.

    Raises:
        DataError: a file is damaged, or the ids are not 0, 1, 2, ...
    """
    try:
        ids = json.loads((folder / IDS).read_text(encoding="utf-8"))
        model = sentencepiece_proto.ModelProto.FromString((folder / PIECES).read_bytes())
    except (OSError, ValueError, DecodeError) as error:
        raise DataError(f"the tokenizer cannot be read ({error})", where=str(folder)) from None
    if not isinstance(ids, dict) or sorted(ids.values()) != list(range(len(ids))):
        raise DataError(f"the ids are not 0, 1, 2, ... {len(ids) - 1}", where=str(folder / IDS))
    return _reordered(model, ids)


def write_tokenizer(folder: Path, model: bytes, pieces: tuple[str, ...]) -> None:
    """The tokenizer of a SentencePiece model whose pieces have the ids of their places."""
    ids = {piece: number for number, piece in enumerate(pieces)}
    bos, pad, eos, unk = SPECIALS
    names = {"bos_token": bos, "pad_token": pad, "eos_token": eos, "unk_token": unk}
    about = {**names, "tokenizer_class": "Speech2TextTokenizer", "processor_class": "Speech2TextProcessor"}
    (folder / PIECES).write_bytes(model)
    (folder / IDS).write_text(json.dumps(ids, ensure_ascii=False, indent=0) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(names, indent=2) + "\n", encoding="utf-8")


def _reordered(model: Any, ids: Mapping[str, int]) -> bytes:
    """The model with its pieces by id. A piece that it lacks (a language tag, fairseq's padding of the vocabulary) is
    a control symbol, which no text is cut into."""
    known = {piece.piece: piece for piece in model.pieces}
    ordered = []
    for name in sorted(ids, key=lambda piece: ids[piece]):
        kind = _Piece.UNKNOWN if name == SPECIALS[UNK] else _Piece.CONTROL
        ordered.append(known[name] if name in known and name not in SPECIALS else _Piece(piece=name, type=kind))
    del model.pieces[:]
    model.pieces.extend(ordered)
    for name, piece in zip(("bos", "pad", "eos", "unk"), SPECIALS, strict=True):
        setattr(model.trainer_spec, f"{name}_piece", piece)
        setattr(model.trainer_spec, f"{name}_id", SPECIALS.index(piece))
    data: bytes = model.SerializeToString()
    return data
