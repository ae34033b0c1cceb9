"""Opening an engine by its options; what it cannot do is refused here, before any work."""

from collections.abc import Sequence

from xlst_ray.errors import ConfigError, DataError
from xlst_ray.mt.lm_info import read_info
from xlst_ray.mt.options import EngineOptions
from xlst_ray.mt.protocol import Translation, Translator, tidy
from xlst_ray.mt.tables import read_table


def refuse_unable(options: EngineOptions, source: str, target: str) -> None:
    """Refuse what `open_translator` would, without a model's weights: the driver may have no room for them.

    Raises:
        ConfigError, DataError: see there; damaged weights are found by whoever loads them.
    """
    if options.engine == "trained-lm":
        folder = options.model_folder()
        read_info(folder).check(source, target, where=folder)
    elif options.engine in ("transformers", "ctranslate2"):
        from xlst_ray.mt import seq2seq

        seq2seq.refuse_unable(options, source, target)
    else:
        open_translator(options, source, target)


def open_translator(options: EngineOptions, source: str, target: str, *, gpu: bool = False) -> Translator:
    """The engine, ready to translate from `source` to `target` (language codes).

    Args:
        gpu: a model computes there, if there is one.

    Raises:
        ConfigError: `human` (no engine but a column), or a pair of languages that the engine has not.
        DataError: the table or the model is missing or damaged.
    """
    if options.engine == "phrasebook" and options.table is not None:
        return Phrasebook(options.table, source, target)
    if options.engine == "trained-lm":
        from xlst_ray.mt.trained_lm import TrainedLM  # here, for transformers takes seconds to import

        return TrainedLM(options, source, target, gpu=gpu)
    if options.engine in ("transformers", "ctranslate2"):
        from xlst_ray.mt.seq2seq import CTranslate2Seq2Seq, TransformersSeq2Seq

        kind = TransformersSeq2Seq if options.engine == "transformers" else CTranslate2Seq2Seq
        return kind(options, source, target, gpu=gpu)
    if options.engine == "http":
        from xlst_ray.mt.http_llm import HttpLLM

        return HttpLLM(options, source, target)
    if options.engine == "vllm":
        raise ConfigError(
            "engine vllm works on a cluster, bucket by bucket, and not sentence by sentence in this process",
            hint="run jobs/pseudo_label.py, or ask a server of vLLM's by engine http",
        )
    raise ConfigError(
        "engine human translates nothing: its labels are the corpus's own translations",
        hint="assemble its labels with xlst_ray.mt.labels.human_labels",
    )


class Phrasebook:
    """A table of sentences: the exact source sentence, up to spacing, or nothing.

    Raises:
        ConfigError: the table has not both languages.
        DataError: it cannot be read, or translates one sentence in two ways.
    """

    def __init__(self, url: str, source: str, target: str) -> None:
        self._translations: dict[str, str] = {}
        for text, translation in read_table(url, source, target):
            if self._translations.setdefault(text, translation) != translation:
                raise DataError(f"translates {text!r} in two ways", where=url, hint="keep one of them")

    def translate(self, texts: Sequence[str]) -> list[Translation]:
        return [self._look_up(tidy(text)) for text in texts]

    def _look_up(self, text: str) -> Translation:
        found = self._translations.get(text)
        if found is None:
            return Translation(None, "missing", "not in the phrasebook")
        return Translation(found, "ok")
