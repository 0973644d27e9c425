"""Do the paper's choices pay, and how well do other models do? Small models on the same clips, told over `configs/small.yaml`.

The ablations differ from it in one choice each. The baselines are other models of the next sample, of as many parameters (but for counts of
two samples); the rate of each is the best of `rates` (for counts, what stands for it).
"""

from benchmarks.experiments.declare import Experiment, Run, Settings

CONFIG = "configs/small.yaml"
QUICK: Settings = {"data.clips": 64, "trainer.max_steps": 4, "trainer.val_check_interval": 2, "trainer.log_every_n_steps": 2}

EQUAL_TIME = 135
"""Steps of the model without pooling in the time of the base's 200: it takes 1.48 as long (`benchmarks.training_speed`, AMD EPYC)."""


def levels(*specs: tuple[int, int, int]) -> Settings:
    """Width, depth and pooling factor of each level."""
    return {"model.levels": [{"width": width, "depth": depth, "factor": factor} for width, depth, factor in specs]}


UNPOOLED = levels((32, 5, 1))
WAVENET: Settings = {"model": "lightning_modules.WaveNetModule", "model.width": 28, "model.skip": 48, "model.cycle": 9, "model.cycles": 1}
COUNTS: Settings = {"model": "lightning_modules.CountsModule", "model.order": 1, "model.strength": 64.0}
MODELS: dict[str, Settings] = {
    "harmonic": {},
    "lti": {"model.recurrence": "lti"},
    "wavenet": {**WAVENET, "model.optimizer.lr": 3e-2},
    "gru": {"model.recurrence": "gru", **levels((28, 1, 4), (24, 1, 4), (24, 1, 1))},
}
RATES = (3e-3, 1e-2, 3e-2, 1e-1)
STRENGTHS = (4.0, 16.0, 64.0, 256.0)
SAMPLED = 256


def variant(name: str, question: str, what: str, settings: Settings) -> Run:
    return Run(name, CONFIG, settings, {"question": question, "variant": what})


def compared(name: str, question: str, runs: list[Run]) -> Experiment:
    return Experiment(name, question, tuple(runs), seeds=3, quick=QUICK, any_data=True)


def ablations() -> Experiment:
    """Each choice against the others at equal steps; pooling at equal time too."""
    shorter = {"trainer.max_steps": EQUAL_TIME, "trainer.val_check_interval": EQUAL_TIME // 2}
    runs = [
        variant("base", "-", "base: sinusoidal, 4 groups, pooled, complex, 32 wide", {}),
        variant("none", "recurrence", "none", {"model.recurrence": "none"}),
        variant("real", "recurrence", "real", {"model.recurrence": "real"}),
        variant("learned", "embedding", "learned", {"model.embedding": "learned"}),
        variant("unpooled", "pooling", "none, equal steps", UNPOOLED),
        variant("unpooled_time", "pooling", f"none, equal time ({EQUAL_TIME} steps)", {**UNPOOLED, **shorter}),
        variant("groups_1", "pooling groups", "1", {"model.groups": 1}),
        variant("groups_2", "pooling groups", "2", {"model.groups": 2}),
        variant("groups_32", "pooling groups", "32 (one for each channel)", {"model.groups": 32}),
        variant("narrow", "depth", "all levels deeper: 24 wide, 2 + 2 + 2", levels((24, 2, 4), (24, 2, 4), (24, 2, 1))),
        variant("deep_centre", "depth", "deeper centre: 24 wide, 1 + 1 + 6", levels((24, 1, 4), (24, 1, 4), (24, 6, 1))),
        variant("deep_outside", "depth", "deeper outside: 24 wide, 3 + 1 + 1", levels((24, 3, 4), (24, 1, 4), (24, 1, 1))),
    ]
    question = "Do the paper's choices pay at a small size: embedding, pooling and its groups, kind of recurrence, depth?"
    return compared("ablations", question, runs)


def rates() -> Experiment:
    """Each model at each of some peak rates, measured on the validation split."""
    runs = []
    for name, model in MODELS.items():
        for rate in RATES:
            settings = {**model, "model.optimizer.lr": rate}
            runs.append(Run(f"{name}_{rate:g}", CONFIG, settings, {"model": name, "peak rate": rate}, tests={}))
    for strength in STRENGTHS:
        labels = {"model": "counts", "peak rate": f"s = {strength:g}"}
        runs.append(Run(f"counts_{strength:g}", CONFIG, {**COUNTS, "model.strength": strength}, labels, tests={}))
    return compared("rates", "Which peak rate suits each model best?", runs)


def baselines() -> Experiment:
    """Each model at its own rate."""
    runs = [Run(name, CONFIG, model, {"model": name}, sampled=SAMPLED) for name, model in MODELS.items()]
    for order in (1, 2):
        settings = {**COUNTS, "model.order": order}
        runs.append(Run(f"counts_{order}", CONFIG, settings, {"model": f"counts, order {order}"}, sampled=SAMPLED))
    return compared("baselines", "How well do other models of the next sample do, on equal terms?", runs)
