"""From the test stages of an experiment to its table, its `results.json` and its page."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from xlst_ray import storage
from xlst_ray.recipe.arms import HUMAN, ST_TEST, Start, engines, starts
from xlst_ray.recipe.options import Arm, Experiment
from xlst_ray.recipe.run import Recipe
from xlst_ray.report.content import Content, CurvePoint, DataTable, Sample
from xlst_ray.report.page import render_report
from xlst_ray.report.results import ArmResult, Results, headline, relative_reduction, table
from xlst_ray.score.bleu import TextScore
from xlst_ray.score.errors import ErrorCounts, word_errors
from xlst_ray.score.significance import paired_p_value
from xlst_ray.shards.schema import SPLITS
from xlst_ray.stages.evaluate import HYPOTHESES
from xlst_ray.stages.stage import StageResult, versions
from xlst_ray.text.leakage import LeakageReport

SAMPLES = 12  # test utterances shown on the page


@dataclass(frozen=True)
class Tested:
    """An arm with one seed on the test set: its scores, its hypotheses in the order of the test set, its errors."""

    start: Start
    seed: int
    scores: dict[str, Any]
    table: pa.Table
    errors: list[ErrorCounts]
    seconds: float


def run_experiment(experiment: Experiment) -> str:
    """Run what is missing of an experiment, write `results.json` and `report.html`, and return what to print."""
    recipe = Recipe(experiment)
    recipe.read_corpora()
    tested = [_read_tested(recipe, start, seed) for seed in experiment.seeds for start in starts(experiment)]
    for seed in experiment.seeds:
        for engine in engines(experiment):
            recipe.st_test(engine, seed)
    results = compare(recipe, tested)
    folder = storage.join(experiment.workspace, "runs", experiment.name)
    storage.write_json(storage.join(folder, "config.json"), experiment.resolved())
    storage.write_json(storage.join(folder, "results.json"), results.to_json())
    storage.write_bytes(storage.join(folder, "report.html"), page(recipe, results, tested).encode())
    return f"{render(table(results))}\n{headline(results)}\n{folder}/report.html\n{folder}/results.json"


def render(drawn: Table) -> str:
    """A table as text, as wide as the terminal."""
    console = Console()
    with console.capture() as capture:
        console.print(drawn)
    return capture.get()


def _read_tested(recipe: Recipe, start: Start, seed: int) -> Tested:
    result = recipe.test(start, seed)
    hypotheses = storage.read_table(storage.join(result.folder, HYPOTHESES))
    errors = word_errors(hypotheses["reference"].to_pylist(), hypotheses["hypothesis"].to_pylist(), recipe.target_lang)
    seconds = sum(_seconds(part) for part in recipe.chain(start, seed))
    return Tested(start, seed, dict(result.counts), hypotheses, errors, round(seconds, 1))


def _seconds(stage: StageResult) -> float:
    """Of a training that was killed and went on, the manifest counts the last call alone; its checkpoints count all."""
    return max(stage.seconds, float(stage.counts.get("training_seconds", 0.0)))


def compare(recipe: Recipe, tested: Sequence[Tested]) -> Results:
    """Every arm beside `direct` and `scratch` of the same seed."""
    by_arm = {(entry.start.arm, entry.seed): entry for entry in tested}

    def p_value(entry: Tested, arm: Arm) -> float | None:
        other = by_arm.get((arm, entry.seed))
        if other is None or other is entry:
            return None
        groups = entry.table["group"].to_pylist()
        return paired_p_value(entry.errors, other.errors, groups, recipe.experiment.evaluate.score)

    arms = []
    for entry in tested:
        scores = entry.scores
        direct = by_arm.get(("direct", entry.seed))
        arms.append(
            ArmResult(
                arm=entry.start.arm,
                engine=None if entry.start.engine == HUMAN else entry.start.engine,
                seed=entry.seed,
                wer=scores["wer"],
                wer_interval=tuple(scores["wer_interval"]),
                cer=scores["cer"],
                cer_interval=tuple(scores["cer_interval"]),
                relative_wer_reduction=None
                if direct is None or direct is entry
                else relative_reduction(scores["wer"], direct.scores["wer"]),
                p_vs_direct=p_value(entry, "direct"),
                p_vs_scratch=p_value(entry, "scratch"),
                test=f"{recipe.target_lang} test",
                utterances=scores["utterances"],
                seconds=entry.seconds,
                blocks=scores["blocks"],
                rule=scores["rule"],
                ctc_wer=scores.get("ctc_wer"),
            )
        )
    confidence = recipe.experiment.evaluate.score.confidence
    return Results(recipe.experiment.name, recipe.source_lang, recipe.target_lang, tuple(arms), confidence)


def page(recipe: Recipe, results: Results, tested: Sequence[Tested]) -> str:
    """The report as one HTML page."""
    trained = {title: result for title, result in recipe.runner.results.items() if _has(result, "training.json")}
    content = Content(
        curves={title: _curve(result) for title, result in trained.items()},
        samples=_samples(tested),
        data=[_data_table(recipe)],
        leakage=LeakageReport(tuple(recipe.overlaps)),
        translation=_translation(recipe),
        transfers={
            title: storage.read_bytes(storage.join(result.folder, "transfer.txt")).decode()
            for title, result in trained.items()
            if _has(result, "transfer.txt")
        },
        config=recipe.experiment.resolved(),
        versions=versions(),
    )
    return render_report(results, content)


def _has(result: StageResult, name: str) -> bool:
    return storage.exists(storage.join(result.folder, name))


def _curve(result: StageResult) -> list[CurvePoint]:
    validations = storage.read_json(storage.join(result.folder, "training.json"))["validations"]
    return [
        CurvePoint(int(entry["update"]), dev_loss=entry.get("loss"), dev_accuracy=entry.get("accuracy"))
        for entry in validations
    ]


def _samples(tested: Sequence[Tested]) -> list[Sample]:
    """Utterances spread over the test set, with the hypothesis of each arm of the first seed."""
    first = [entry for entry in tested if entry.seed == tested[0].seed]
    ids = first[0].table["id"].to_pylist()
    references = first[0].table["reference"].to_pylist()
    answers = {entry.start.name: entry.table["hypothesis"].to_pylist() for entry in first}
    chosen = range(0, len(ids), max(1, len(ids) // SAMPLES))
    return [
        Sample(ids[row], references[row], {name: texts[row] for name, texts in answers.items()})
        for row in list(chosen)[:SAMPLES]
    ]


def _data_table(recipe: Recipe) -> DataTable:
    rows = []
    for lang, stage in ((recipe.source_lang, recipe.source), (recipe.target_lang, recipe.target)):
        for split in SPLITS:
            counts = stage.counts.get(split)
            if counts:
                rejected = ", ".join(f"{number} {reason}" for reason, number in counts["rejected"].items())
                rows.append(
                    (f"{lang} {split}", str(counts["kept"]), f"{counts['seconds'] / 3600:.2f}", rejected or "none")
                )
    return DataTable("Speech", ("split", "utterances", "hours", "rejected"), rows)


def _translation(recipe: Recipe) -> dict[str, TextScore]:
    return {
        title.removeprefix(ST_TEST): TextScore(**result.counts["translation"])
        for title, result in recipe.runner.results.items()
        if title.startswith(ST_TEST)
    }
