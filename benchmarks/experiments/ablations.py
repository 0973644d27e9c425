"""Do the paper's choices pay? Small models that differ in one choice each, on the same clips: see `configs/ablations/`."""

from benchmarks.experiments.declare import Experiment, Run, Settings

QUICK: Settings = {"data.clips": 64, "trainer.max_steps": 4, "trainer.val_check_interval": 2, "trainer.log_every_n_steps": 2}

EQUAL_TIME = 135
"""Steps of the model without pooling in the time of base's 200: `benchmarks.pooling_time` gave 1.48 of a step's time on an AMD EPYC."""


def levels(*specs: tuple[int, int, int]) -> Settings:
    """Width, depth and pooling factor of each level."""
    return {"model.levels": [{"width": width, "depth": depth, "factor": factor} for width, depth, factor in specs]}


def variant(name: str, config: str, question: str, what: str, settings: Settings | None = None) -> Run:
    return Run(name, f"configs/ablations/{config}.yaml", settings or {}, {"question": question, "variant": what})


def ablations() -> Experiment:
    """Each choice against the others at equal steps; pooling at equal time too."""
    shorter = {"trainer.max_steps": EQUAL_TIME, "trainer.val_check_interval": EQUAL_TIME // 2}
    runs = (
        variant("base", "base", "-", "base: sinusoidal, 4 groups, pooled, complex, 32 wide"),
        variant("none", "recurrence", "recurrence", "none", {"model.recurrence": "none"}),
        variant("real", "recurrence", "recurrence", "real"),
        variant("learned", "embedding", "embedding", "learned"),
        variant("unpooled", "pooling", "pooling", "none, equal steps"),
        variant("unpooled_time", "pooling", "pooling", f"none, equal time ({EQUAL_TIME} steps)", shorter),
        variant("groups_1", "groups", "pooling groups", "1"),
        variant("groups_2", "groups", "pooling groups", "2", {"model.groups": 2}),
        variant("groups_32", "groups", "pooling groups", "32 (one for each channel)", {"model.groups": 32}),
        variant("narrow", "depth", "depth", "all levels deeper: 24 wide, 2 + 2 + 2"),
        variant("deep_centre", "depth", "depth", "deeper centre: 24 wide, 1 + 1 + 6", levels((24, 1, 4), (24, 1, 4), (24, 6, 1))),
        variant("deep_outside", "depth", "depth", "deeper outside: 24 wide, 3 + 1 + 1", levels((24, 3, 4), (24, 1, 4), (24, 1, 1))),
    )
    question = "Do the paper's choices pay at a small size: embedding, pooling and its groups, kind of recurrence, depth?"
    return Experiment("ablations", question, runs, seeds=3, quick=QUICK, any_data=True)
