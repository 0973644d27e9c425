"""Does a model remember? A motif that comes back after k samples of noise: see `datamodules/memory.py`.

Every chain of runs begins with distances of up to 64 samples and goes on, from the weights that it has, to ten, a hundred and a thousand
times that: a curriculum. Motifs and repeats start at multiples of 16 samples, which is the pooling factor: each lies in one window.
"""

from dataclasses import dataclass

from benchmarks.experiments.declare import Experiment, Run, Settings

GRID = 16


@dataclass(frozen=True)
class Stage:
    """Distances of up to k, and how long they are trained on; chunk and lanes are of training with carried state, on as many samples."""

    k: int
    pairs: int
    recordings: int
    batch: int
    steps: int
    chunk: int = 0
    lanes: int = 0

    @property
    def settings(self) -> Settings:
        shape = {"data.distance": self.k, "data.pairs": self.pairs, "data.recordings": self.recordings, "data.batch_size": self.batch}
        ends = {"trainer.max_steps": self.steps, "trainer.val_check_interval": max(1, self.steps // 4 if self.k < 1000 else self.steps)}
        return shape | ends | {"trainer.log_every_n_steps": max(1, self.steps // 20)}

    @property
    def carried(self) -> Settings:
        """Chunks shorter than k, from each to the next of which the state is carried and gradients are not."""
        steps = self.steps * self.batch * self.pairs * (self.k + GRID) // (self.lanes * self.chunk)
        order = {"data.order": "sequential", "data.eval_context": "file", "data.clip_samples": self.chunk, "data.batch_size": self.lanes}
        return order | {"trainer.max_steps": steps, "trainer.val_check_interval": steps}


STAGES = (
    Stage(k=64, pairs=32, recordings=256, batch=8, steps=200),
    Stage(k=1024, pairs=8, recordings=128, batch=4, steps=80, chunk=512, lanes=16),
    Stage(k=10_240, pairs=4, recordings=64, batch=2, steps=40, chunk=4096, lanes=8),
    Stage(k=102_400, pairs=2, recordings=32, batch=1, steps=24, chunk=32_768, lanes=4),
    Stage(k=512_000, pairs=1, recordings=16, batch=1, steps=12),
)
POOLED = [{"width": 8, "depth": 1, "factor": GRID}, {"width": 32, "depth": 1}]
UNPOOLED = [{"width": 16, "depth": 2}]
SPLIT = {"trainer.devices": 2, "trainer.strategy": "context_parallel"}


def chain(name: str, stages: int, network: Settings, **labels: str) -> list[Run]:
    """A model through so many stages, trained on whole recordings."""
    runs: list[Run] = []
    for stage in STAGES[:stages]:
        before = runs[-1].name if runs else None
        runs.append(make_run(f"{name}_k{stage.k}", stage, network | stage.settings, before, labels))
    return runs


def make_run(name: str, stage: Stage, settings: Settings, after: str | None, labels: Settings) -> Run:
    """One run, whose repeats are measured at the one distance k: with all that came before, and with the state cut before the repeat."""
    at_k = {"data.min_distance": None}
    cut = {"data.eval_context": "clip", "data.clip_samples": stage.k + GRID}
    tests = {"repeat": at_k, "cut": at_k | cut}
    return Run(name, "configs/memory.yaml", settings, {**labels, "k": stage.k}, after, tests)


def memory() -> Experiment:
    """The NLL of repeats over k; runs that are asked for most come first."""
    pooled, unpooled = {"model.levels": POOLED}, {"model.levels": UNPOOLED}
    tight = {"pooling": f"{GRID}, tight", "trained": "whole"}
    main = chain("complex", 5, pooled, recurrence="complex", **tight)
    none = chain("none", 4, pooled | {"model.recurrence": "none"}, recurrence="none", **tight)
    real = chain("real", 4, pooled | {"model.recurrence": "real"}, recurrence="real", **tight)
    plain = chain("complex_unpooled", 3, unpooled, recurrence="complex", pooling="none", trained="whole")
    frame = chain("complex_frame", 3, pooled | {"model.shift": "frame"}, recurrence="complex", pooling=f"{GRID}, frame", trained="whole")
    plain_real = chain("real_unpooled", 3, unpooled | {"model.recurrence": "real"}, recurrence="real", pooling="none", trained="whole")
    plain_none = chain("none_unpooled", 3, unpooled | {"model.recurrence": "none"}, recurrence="none", pooling="none", trained="whole")
    carried, before = [], main[0].name
    for stage in STAGES[1:4]:
        labels = {"recurrence": "complex", "pooling": f"{GRID}, tight", "trained": "carried"}
        carried.append(make_run(f"carried_k{stage.k}", stage, pooled | stage.settings | stage.carried, before, labels))
        before = carried[-1].name
    labels = {"recurrence": "complex", "pooling": f"{GRID}, tight", "trained": "split over 2"}
    split = make_run("split_k1024", STAGES[1], pooled | STAGES[1].settings | SPLIT, main[0].name, labels)
    runs = [*main[:4], *none[:2], *carried, *real[:3], split, *plain[:2], *frame[:2], main[4], real[3], plain[2], frame[2]]
    return Experiment(
        name="memory",
        question="Does a model predict a motif that comes back after k samples of noise?",
        runs=(*runs, *none[2:], *plain_real, *plain_none),
        quick={"data.recordings": 8, "trainer.max_steps": 2, "trainer.val_check_interval": 2, "trainer.log_every_n_steps": 1},
        curve="k",
    )
