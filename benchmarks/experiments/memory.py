"""Does a model remember? A motif that comes back after k samples of noise: see `datamodules/memory_task.py`.

Every chain of runs begins with distances of 16 to 64 samples and goes on, from the weights that it has, to longer and longer ones: a
curriculum. Motifs and repeats start at multiples of 16 samples, which is the pooling factor: each lies in one window. Without recurrence
the pooled model reaches back about 64 samples, by its convolutions; the unpooled one 6.
"""

from dataclasses import dataclass

from benchmarks.experiments.declare import Experiment, Run, Settings

GRID = 16


@dataclass(frozen=True)
class Stage:
    """Distances of `least` to k, and how long they are trained on; chunk and lanes are of training with carried state."""

    least: int
    k: int
    pairs: int
    batch: int
    steps: int
    recordings: int = 128
    chunk: int = 0
    lanes: int = 0

    @property
    def settings(self) -> Settings:
        distances = {"data.min_distance": self.least, "data.distance": self.k}
        shape = {"data.pairs": self.pairs, "data.recordings": self.recordings, "data.batch_size": self.batch}
        return distances | shape | self._ends(self.steps)

    @property
    def carried(self) -> Settings:
        """Chunks of about k, from each to the next of which the state is carried and gradients are not; as many samples in all."""
        steps = self.steps * self.batch * self.pairs * (self.k + GRID) // (self.lanes * self.chunk)
        order = {"data.order": "sequential", "data.eval_context": "file", "data.clip_samples": self.chunk, "data.batch_size": self.lanes}
        return order | self._ends(steps)

    def _ends(self, steps: int) -> Settings:
        validated = steps // 2 if self.k < 10_000 else steps
        return {"trainer.max_steps": steps, "trainer.val_check_interval": validated, "trainer.log_every_n_steps": max(1, steps // 20)}


STAGES = (
    Stage(least=16, k=64, pairs=32, batch=8, steps=200),
    Stage(least=64, k=256, pairs=8, batch=4, steps=300, chunk=1024, lanes=8),
    Stage(least=64, k=1024, pairs=4, batch=2, steps=300, chunk=2048, lanes=4),
    Stage(least=256, k=4096, pairs=2, batch=1, steps=300, chunk=4096, lanes=2),
    Stage(least=1024, k=10_240, pairs=1, batch=1, steps=150, recordings=256, chunk=8192, lanes=2),
    Stage(least=2560, k=40_960, pairs=1, batch=1, steps=60, recordings=64, chunk=32_768, lanes=2),
    Stage(least=10_240, k=102_400, pairs=1, batch=1, steps=40, recordings=64, chunk=65_536, lanes=2),
    Stage(least=40_960, k=512_000, pairs=1, batch=1, steps=20, recordings=32),
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
    """The NLL of repeats over k."""
    pooled, unpooled = {"model.levels": POOLED}, {"model.levels": UNPOOLED}
    tight = {"pooling": f"{GRID}, tight", "trained": "whole"}
    main = chain("complex", 8, pooled, recurrence="complex", **tight)
    none = chain("none", 7, pooled | {"model.recurrence": "none"}, recurrence="none", **tight)
    real = chain("real", 7, pooled | {"model.recurrence": "real"}, recurrence="real", **tight)
    frame = chain("complex_frame", 5, pooled | {"model.shift": "frame"}, recurrence="complex", pooling=f"{GRID}, frame", trained="whole")
    alone = {"pooling": "none", "trained": "whole"}
    plain = chain("complex_unpooled", 5, unpooled, recurrence="complex", **alone)
    plain_real = chain("real_unpooled", 5, unpooled | {"model.recurrence": "real"}, recurrence="real", **alone)
    plain_none = chain("none_unpooled", 5, unpooled | {"model.recurrence": "none"}, recurrence="none", **alone)
    labels = {"recurrence": "complex", "pooling": f"{GRID}, tight"}
    carried, before = [], main[0].name
    for stage in STAGES[1:7]:
        settings = pooled | stage.settings | stage.carried
        carried.append(make_run(f"carried_k{stage.k}", stage, settings, before, labels | {"trained": "carried"}))
        before = carried[-1].name
    second = STAGES[1]
    split = make_run(f"split_k{second.k}", second, pooled | second.settings | SPLIT, main[0].name, labels | {"trained": "split over 2"})
    runs = (*main, *none, *carried, *real, split, *frame, *plain, *plain_real, *plain_none)
    return Experiment(
        name="memory",
        question="Does a model predict a motif that comes back after k samples of noise?",
        runs=runs,
        seeds=3,
        trial=("complex_k64", "complex_k256", "none_k64", "carried_k256", "split_k256", "complex_frame_k64", "real_unpooled_k64"),
        quick={"data.recordings": 8, "trainer.max_steps": 2, "trainer.val_check_interval": 2, "trainer.log_every_n_steps": 1},
        curve="k",
    )
