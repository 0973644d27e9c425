"""Ablations, peak learning rates, baselines and context lengths: small models compared on the same clips.

All are trained on recordings (`configs/small_music.yaml`). Each ablation changes one choice of the paper, on 2 million samples. The
baselines are other next-sample models with the same number of parameters within 5 %, trained on 2 and, but for the GRU, on 20 million
samples, some on 200 million. The context experiment trains one model on clips of three lengths, with equally many samples per step, and
measures its likelihood with the state carried through whole recordings.
"""

from math import pi

from benchmarks.experiments.declare import Experiment, Run, Settings

CONFIG = "configs/small_music.yaml"
QUICK: Settings = {"data.eval_clips": 2, "trainer.max_steps": 4, "trainer.val_check_interval": 2, "trainer.log_every_n_steps": 2}
LONG: Settings = {"trainer.max_steps": 2441, "trainer.val_check_interval": 610}
"""Settings for 20 million training samples."""
LONGEST: Settings = {"trainer.max_steps": 24414, "trainer.val_check_interval": 6103}
"""Settings for 200 million training samples."""
EQUAL_TIME = 165
"""Steps of the unpooled model in the time of the base's 244; each takes 1.48 times as long (`benchmarks.training_speed`, AMD EPYC)."""


def levels(*specs: tuple[int, int, int]) -> Settings:
    """Returns the settings of levels from (width, depth, pooling factor) tuples."""
    return {"model.levels": [{"width": width, "depth": depth, "factor": factor} for width, depth, factor in specs]}


UNPOOLED = levels((32, 5, 1))
PAPER: Settings = {"model.preset": "paper", **levels((28, 1, 4), (28, 1, 4), (28, 1, 1))}
PREDICTION: Settings = {"model.prediction": {}}
BAND: Settings = {
    "model": "benchmarks.experiments.ungated_phase.UngatedPhaseModule",
    "model.phase": [0.0, pi],
    "model.modulus": [0.9, 0.9998],
}
"""Ungated phases over the whole band; with the gate at 0.5 the centre has a memory of up to 20,000 samples."""
MODELS: dict[str, Settings] = {
    "harmonic": {},
    "paper": PAPER,
    "band": BAND,
    "wide": {"model.recurrence_expansion": 2, **levels((28, 1, 4), (28, 1, 4), (28, 1, 1))},
    "none": {"model.recurrence": "none"},
    "lti": {"model.recurrence": "lti"},
    "gru": {"model.recurrence": "gru", **levels((24, 1, 4), (28, 1, 4), (28, 1, 1))},
    "wavenet": {"model": "lightning_modules.WaveNetModule", "model.width": 28, "model.skip": 48, "model.cycle": 9, "model.cycles": 1},
    "harmonic_prediction": {**PREDICTION, **levels((24, 1, 4), (32, 1, 4), (40, 1, 1))},
    "paper_prediction": {**PAPER, **PREDICTION},
    "none_prediction": {**PREDICTION, "model.recurrence": "none"},
}
LONG_RUNS = ("harmonic_prediction", "none_prediction")
"""Models that are also trained on 200 million samples: the best, with and without the recurrence."""
BEST_RATE = 1e-2
RATED = ("harmonic", "paper", "none", "wavenet")
"""Models whose peak rate is searched; the others use the rate of the most similar one."""
RATES = (3e-3, 1e-2, 3e-2)
SAMPLED = 256


def variant(name: str, question: str, what: str, settings: Settings) -> Run:
    """Returns a run of the ablations."""
    return Run(name, CONFIG, {"model.optimizer.lr": BEST_RATE, **settings}, {"question": question, "variant": what})


def compared(name: str, question: str, runs: list[Run], seeds: int = 1) -> Experiment:
    """Returns an experiment on recordings."""
    return Experiment(name, question, tuple(runs), seeds, QUICK, any_data=True)


def ablations() -> Experiment:
    """Each choice against its alternatives at equal steps; pooling also at equal time."""
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
    return compared("ablations", question, runs, seeds=3)


def rates() -> Experiment:
    """Each model at several peak learning rates, measured on the validation split."""
    runs = []
    for name in RATED:
        for rate in RATES:
            settings = {**MODELS[name], "model.optimizer.lr": rate}
            runs.append(Run(f"{name}_{rate:g}", CONFIG, settings, {"model": name, "peak rate": rate}, tests={}))
    return compared("rates", "Which peak rate suits each model best?", runs)


def baselines() -> Experiment:
    """All models on 2 million samples, all but the GRU on 20 million, some on 200 million."""
    runs = []
    longer = [name for name in MODELS if name != "gru"]  # which would take three hours
    for size, names, steps in (("2M", MODELS, {}), ("20M", longer, LONG), ("200M", LONG_RUNS, LONGEST)):
        for name in names:
            settings = {**MODELS[name], "model.optimizer.lr": BEST_RATE, **steps}
            runs.append(Run(f"{name}_{size}", CONFIG, settings, {"model": name}, sampled=0 if name == "band" else SAMPLED))
    return compared("baselines", "How well do other models of the next sample do, on equal terms?", runs)


def context() -> Experiment:
    """Clips of 0.25, 1 and 4 s of piano at 8 kHz.

    A step of the centre is 8 ms; with the gate at 0.5 its longest memory is 20 s.
    """
    rate, runs = 8000, []
    samples = 4 * rate  # per step
    model = {**levels((32, 1, 4), (32, 1, 4), (48, 1, 4), (64, 1, 1)), "model.modulus": [0.9, 0.9999]}
    steps: Settings = {"trainer.max_steps": 1000, "trainer.val_check_interval": 500}
    whole: Settings = {"data.eval_context": "file", "data.eval_clips": None, "data.clip_samples": samples, "data.batch_size": 1}
    for seconds in (0.25, 1, 4):
        clip = int(seconds * rate)
        data = {"data.root": "data/piano", "data.sample_rate": rate, "data.clip_samples": clip, "data.batch_size": samples // clip}
        runs.append(Run(f"clips_{seconds:g}s", CONFIG, {**model, **data, **steps}, {"clip, s": seconds}, tests={"whole": whole}))
    quick = {"data.eval_clips": 2, "trainer.max_steps": 2, "trainer.val_check_interval": 2, "trainer.log_every_n_steps": 1}
    return Experiment("context", "What is context worth?", tuple(runs), quick=quick, positions=True)
