"""An experiment's phases: what each makes of the common architecture."""

from xlst_ray.corpora.options import CorpusOptions
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
