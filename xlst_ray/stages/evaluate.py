"""Model and test shards -> hypotheses and scores: beam search on a pool of decoders, WER and CER, BLEU and chrF."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from xlst_ray import storage
from xlst_ray.batches.index import Index, Source, TargetText, build_index, left_out, show_left_out
from xlst_ray.batches.load import BatchLoader
from xlst_ray.batches.options import BatchOptions
from xlst_ray.batches.plan import Planned, plan_held_out
from xlst_ray.cluster.options import DecodingCluster
from xlst_ray.cluster.pool import map_items
from xlst_ray.config import Section, option
from xlst_ray.errors import DataError
from xlst_ray.model.beam import BeamOptions, Recognition, recognise
from xlst_ray.model.files import load_model, read_longest
from xlst_ray.progress import say
from xlst_ray.score.bleu import score_translations
from xlst_ray.score.errors import char_errors, rate, word_errors
from xlst_ray.score.options import ScoreOptions
from xlst_ray.score.significance import rate_interval
from xlst_ray.shards.files import read_labels, read_shard
from xlst_ray.stages.speech_data import target_language
from xlst_ray.stages.stage import Stage
from xlst_ray.stages.states import check_states
from xlst_ray.text.normalise import TextOptions, normalise, rule_name
from xlst_ray.text.vocabulary import Vocabulary

INDEX = "index-test.parquet"
HYPOTHESES = "hypotheses.parquet"
SCORES = "scores.json"
VERSION = 2  # raised when the code changes what is recognised or scored

HYPOTHESIS_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("group", pa.string(), nullable=False),
        pa.field("reference", pa.string(), nullable=False),
        pa.field("hypothesis", pa.string(), nullable=False),
        pa.field("score", pa.float64(), nullable=False),  # length-normalised log probability
        pa.field("finished", pa.bool_(), nullable=False),
        pa.field("looping", pa.bool_(), nullable=False),
        pa.field("no_speech", pa.bool_(), nullable=False),
        pa.field("nbest", pa.list_(pa.struct([("text", pa.string()), ("score", pa.float64())])), nullable=False),
        pa.field("ctc_hypothesis", pa.string()),
    ]
)


class EvaluateOptions(Section):
    """How test speech is recognised and scored."""

    beam: BeamOptions = option(BeamOptions, "beam search")
    score: ScoreOptions = option(ScoreOptions, "intervals and significance")
    max_utterances: int = option(16, "most utterances in a batch", ge=1)
    max_frames: int = option(20_000, "most frames in a batch, padding included", unit="frames", ge=1)


class Decoder:
    """Recognises batches of a test index with the model of a folder."""

    def __init__(self, model: str, index: str, options: EvaluateOptions, *, threads: int, gpu: bool, lang: str) -> None:
        torch.set_num_threads(threads)
        self._device = torch.device("cuda" if gpu else "cpu")
        with storage.local_folder(model) as folder:
            self._model = load_model(folder).to(self._device)
            self._vocabulary = Vocabulary.load(folder, size=self._model.vocabulary_size)
        self._start = self._vocabulary.start(lang)
        self._options = options
        frontend = self._model.frontend
        self._loader = BatchLoader(Index.load(index), _batches(options), augment=None, seed=0, frontend=frontend)

    def __call__(self, rows: Sequence[int]) -> list[dict[str, Any]]:
        batch = self._loader.load(Planned.once(np.asarray(rows)))
        features = torch.from_numpy(batch.features).to(self._device).float()
        frames = torch.from_numpy(batch.frames).to(self._device)
        starts = None if self._start is None else torch.full_like(frames, self._start)
        found = recognise(self._model, features, frames, self._options.beam, starts)
        return [{"id": name, **self._describe(one)} for name, one in zip(batch.ids, found, strict=True)]

    def _describe(self, found: Recognition) -> dict[str, Any]:
        best, decode = found.hypotheses[0], self._vocabulary.decode
        return {
            "hypothesis": decode(best.tokens),
            "score": best.score,
            "finished": best.finished,
            "looping": best.looping,
            "no_speech": best.no_speech,
            "nbest": [{"text": decode(one.tokens), "score": one.score} for one in found.hypotheses],
            "ctc_hypothesis": None if found.ctc is None else decode(found.ctc),
        }


def describe_test(config: Mapping[str, Any], inputs: Mapping[str, str]) -> Stage:
    """The stage of a test: its options, and the fingerprints of the model and of what it is tested on."""
    return Stage("test", config, inputs, version=VERSION)


def evaluate(
    title: str, options: EvaluateOptions, model: str, test: Source, folder: str, cluster: DecodingCluster
) -> dict[str, Any]:
    """Recognise a test split with the model of a folder; hypotheses and scores go to `folder`.

    With labels the targets are translations, and BLEU and chrF are what counts; WER is given all the same.

    Raises:
        DataError: no test utterance, no reference with any text, or not the states that the model reads.
    """
    with storage.local_folder(model) as local:
        check_states(local, test.states)
        lang, text = read_text_rule(local)
        vocabulary, longest = Vocabulary.load(local), read_longest(local)
    lang = target_language(test) if vocabulary.tags else lang
    rule = TargetText(normalise=lambda sentence: normalise(sentence, lang, text), encode=vocabulary.encode)
    index = build_index(test, rule, _batches(options), references=True, longest=longest)
    if not len(index.tokens):
        raise DataError("no reference has any text", where=test.shards, hint="look at the test transcripts")
    index.save(storage.join(folder, INDEX))
    batches = [rows.tolist() for rows in plan_held_out(index, _batches(options))]
    threads, gpu = max(1, int(cluster.decoder_cpus)), cluster.decoder_gpus > 0
    decoder = partial(Decoder, model, storage.join(folder, INDEX), options, threads=threads, gpu=gpu, lang=lang)
    answers = {
        answer["id"]: answer
        for part in map_items(
            title,
            "batches",
            decoder,
            batches,
            cluster,
            pool=cluster.decoders,
            cpus=cluster.decoder_cpus,
            gpus=cluster.decoder_gpus,
            folder=folder,
        )
        for answer in part
    }
    unscored = left_out(index.counts)
    cut = index.counts.get("cut", 0)
    if unscored or cut:
        told = f"; heard up to the encoder's 30 s alone: {cut}" if cut else ""
        say(f"{title}: {len(index)} utterances are scored; left out: {show_left_out(index.counts)}{told}")
    table = _join(index, test, answers, rule)
    storage.write_table(storage.join(folder, HYPOTHESES), table)
    scores = score(table, lang, text, options.score, translated=test.labels is not None)
    scores |= {"left_out": unscored, "cut": cut}
    storage.write_json(storage.join(folder, SCORES), scores)
    return scores


def score(
    table: pa.Table, lang: str, text: TextOptions, options: ScoreOptions, *, translated: bool = False
) -> dict[str, Any]:
    """The scores of a hypothesis table, in percent, with intervals by group."""
    references, hypotheses = table["reference"].to_pylist(), table["hypothesis"].to_pylist()
    groups = table["group"].to_pylist()
    words, chars = word_errors(references, hypotheses, lang), char_errors(references, hypotheses, lang)
    wer_interval, cer_interval = (rate_interval(counts, groups, options) for counts in (words, chars))
    scores: dict[str, Any] = {
        "utterances": len(references),
        "wer": rate(words),
        "wer_interval": [wer_interval.low, wer_interval.high],
        "cer": rate(chars),
        "cer_interval": [cer_interval.low, cer_interval.high],
        "blocks": wer_interval.blocks,
        "rule": rule_name(text),
        "unfinished": table["finished"].to_pylist().count(False),
        "looping": table["looping"].to_pylist().count(True),
        "no_speech": table["no_speech"].to_pylist().count(True),
    }
    ctc = table["ctc_hypothesis"].to_pylist()
    if None not in ctc:
        scores["ctc_wer"] = rate(word_errors(references, ctc, lang))
        scores["ctc_cer"] = rate(char_errors(references, ctc, lang))
    if translated:
        scores["translation"] = asdict(score_translations(references, hypotheses, lang))
    return scores


def read_text_rule(folder: Path) -> tuple[str, TextOptions]:
    """The language and the normalisation of a model's output. Raises `DataError` where nothing says them."""
    path = folder / "text.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        return values["lang"], TextOptions.model_validate(values["text"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        what = f"does not say the model's language and text normalisation ({error})"
        raise DataError(what, where=str(path), hint="is it the folder of a model of jobs/train.py, whole?") from None


def _batches(options: EvaluateOptions) -> BatchOptions:
    return BatchOptions(max_utterances=options.max_utterances, max_frames=options.max_frames, cache_mb=0)


def _join(index: Index, test: Source, answers: dict[str, dict[str, Any]], rule: TargetText) -> pa.Table:
    """Answers with their references and groups, in the order of the test shards."""
    rows = []
    wanted = set(index.ids.to_pylist())
    for url in index.urls:
        shard = read_shard(url, ["id", "text", "speaker", "group"]).to_pylist()
        labels = None
        if test.labels is not None:
            labels = read_labels(url, test.labels, [row["id"] for row in shard])["translation"].to_pylist()
        for number, row in enumerate(shard):
            if row["id"] in wanted:
                sentence = row["text"] if labels is None else labels[number]
                group = row["group"] or row["speaker"]
                rows.append({**answers[row["id"]], "group": group, "reference": rule.normalise(sentence)})
    return pa.Table.from_pylist(rows, schema=HYPOTHESIS_SCHEMA)
