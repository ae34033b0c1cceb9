"""The arms of an experiment: the rows of its table, the label sets they need, and the stages that are to come."""

from dataclasses import dataclass
from typing import Final

from xlst_ray.recipe.options import Arm, Experiment

HUMAN = "human"
JOINT: Final = "joint"
ST_TEST = "test translation "  # title of a test of ST itself; `test st-human` is that of a target ASR


@dataclass(frozen=True)
class Start:
    """A row of the table of arms: what a target ASR starts from. `engine` is the name of the labels, for ST."""

    arm: Arm
    engine: str | None = None

    @property
    def name(self) -> str:
        return self.arm if self.engine in (None, HUMAN) else f"{self.arm}-{self.engine}"


def starts(experiment: Experiment) -> list[Start]:
    """The rows of the table: `st-mt` and `joint` have one for each engine; without any, `joint` takes human labels."""
    rows: list[Start] = []
    for arm in experiment.arms:
        if arm == "st-mt" or (arm == JOINT and experiment.engines):
            rows += [Start(arm, engine) for engine in experiment.engines]
        else:
            rows.append(Start(arm, HUMAN if arm in ("st-human", JOINT) else None))
    return rows


def label_sets(experiment: Experiment) -> list[str]:
    """The engines whose labels something is trained on."""
    return list(dict.fromkeys(start.engine for start in starts(experiment) if start.engine is not None))


def engines(experiment: Experiment) -> list[str]:
    """Those that ST is trained on: one ST model each."""
    found = [start.engine for start in starts(experiment) if start.engine is not None and start.arm != JOINT]
    return list(dict.fromkeys(found))


def outline(experiment: Experiment) -> list[tuple[str, int]]:
    """The stages of an experiment by title and the updates that each trains: what progress lines count by."""
    x, rows = experiment, starts(experiment)
    source, target = x.source.corpus.lang, x.target.corpus.lang
    stages = [("prepare source", 0), ("prepare target", 0), ("held-out sentences", 0), ("vocabulary", 0)]
    if x.encoder.path is not None:
        stages.append(("encode target", 0))
        stages += [("encode source", 0)] if any(row.arm != "scratch" for row in rows) else []
    for seed in x.seeds:
        if any(row.arm != "scratch" for row in rows):
            stages.append((f"asr-{source} seed {seed}", x.asr.train.updates))
        if "direct-matched" in x.arms:
            stages.append((f"asr-{source}-matched seed {seed}", x.st.train.updates))
        for engine in label_sets(x):
            trains = engine != HUMAN and x.engines[engine].trains_mt
            stages += [(f"mt-{engine} seed {seed}", 0)] if trains else []
            stages.append((f"labels-{engine} seed {seed}" if trains else f"labels-{engine}", 0))
        stages += [(f"st-{engine} seed {seed}", x.st.train.updates) for engine in engines(x)]
        stages += [(f"asr-{target}-{row.name} seed {seed}", x.phase_of(row.arm).train.updates) for row in rows]
        stages += [(f"test {row.name} seed {seed}", 0) for row in rows]
        stages += [(f"{ST_TEST}st-{engine} seed {seed}", 0) for engine in engines(x)]
    if engines(x):
        stages.append(("labels-human", 0))  # what ST itself is tested against
    return list(dict.fromkeys(stages))
