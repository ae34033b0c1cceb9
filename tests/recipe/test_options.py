"""An experiment's phases: what each makes of the common architecture."""

import pytest

from xlst_ray.config import load
from xlst_ray.corpora.options import CorpusOptions
from xlst_ray.errors import ConfigError
from xlst_ray.model.options import ModelOptions
from xlst_ray.recipe.options import Experiment, PhaseOptions
from xlst_ray.stages.prepare import PrepareOptions


def test_a_phase_may_have_its_own_dropout() -> None:
    source, target = (PrepareOptions(corpus=CorpusOptions(reader="demo", lang=lang)) for lang in ("en", "fi"))
    experiment = Experiment(
        name="phases",
        source=source,
        target=target,
        arms=("scratch",),
        model=ModelOptions(size="xs", attention_dropout=0.05),
        finetune=PhaseOptions(dropout=0.2),
    )
    common, own = (experiment.speech(phase).model for phase in (experiment.asr, experiment.finetune))
    assert common == experiment.model
    assert {own.dropout, own.attention_dropout, own.activation_dropout} == {0.2}
    assert own.architecture().dim == common.architecture().dim


EXPERIMENT = ["name=x", "source.corpus={reader: demo, lang: en}", "target.corpus={reader: demo, lang: fi}"]
ENGINES = ["engines.lm.mt.pairs.grammar.kind=demo", "engines.table.labels.engine={engine: phrasebook, table: t.tsv}"]


@pytest.mark.parametrize(
    ("leakage", "says"),
    [
        ("leakage.drop=[target-tran]", "leakage.drop: target-tran is no training text (did you mean target-train?)"),
        ("leakage.drop=[train-foo]", "leakage.drop: train-foo is no training text (there are: target-train, labels-"),
        ("leakage.allow=[target-train, labels-ml]", "leakage.allow: labels-ml is no training text (did you mean"),
        ("leakage.drop=[pairs-table]", "leakage.drop: pairs-table is no training text"),  # it trains no model
        ("leakage.drop=['q*']", "(there are: target-train, labels-human, labels-lm, labels-table, pairs-lm)"),
    ],
)
def test_leakage_names_texts_that_there_are(leakage: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(Experiment, None, [*EXPERIMENT, *ENGINES, leakage])
    assert says in caught.value.what


@pytest.mark.parametrize("drop", ["'*'", "labels-*", "pairs-lm", "labels-human", "target-train"])
def test_leakage_may_name_a_text_that_the_arms_do_not_need(drop: str) -> None:
    assert load(Experiment, None, [*EXPERIMENT, *ENGINES, "arms=[scratch]", f"leakage.drop=[{drop}]"]).leakage.drop
