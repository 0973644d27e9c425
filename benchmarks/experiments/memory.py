"""Memory experiment: predicting a motif that is repeated after k samples of noise (`datamodules/memory_task.py`).

Each chain of runs is a curriculum: it starts with distances of 16 to 64 samples and continues from the trained weights with longer ones.
Motifs and repeats start at multiples of 16 samples, the pooling factor, so that each lies in one window. Without recurrence the pooled
model's convolutions reach back about 64 samples, and the unpooled model's 6.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.experiments.declare import Experiment, Run, Settings

GRID = 16


@dataclass(frozen=True)
class Stage:
    """Training on distances from `least` to k samples; chunk and lanes are for training with carried state."""

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
        """Settings for training on whole recordings."""
        distances = {"data.min_distance": self.least, "data.distance": self.k}
        shape = {"data.pairs": self.pairs, "data.recordings": self.recordings, "data.batch_size": self.batch}
        return distances | shape | self._ends(self.steps)

    @property
    def carried(self) -> Settings:
        """Settings for training on as many samples in chunks of about k, with the state but no gradients carried from chunk to chunk."""
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


def chain(
    name: str, stages: Sequence[Stage], network: Settings, recurrence: str, pooling: str, trained: str = "whole", after: str | None = None
) -> list[Run]:
    """Returns the runs of a model through the stages, starting from the weights of the run `after`.

    `trained` is a label; "carried" trains in chunks with carried state, all others on whole recordings. Each run measures the repeats at
    distance k, with the whole past and with the state reset before the repeat.
    """
    runs: list[Run] = []
    kind = {} if recurrence == "complex" else {"model.recurrence": recurrence}
    for stage in stages:
        at_k = {"data.min_distance": None}
        tests = {"repeat": at_k, "cut": at_k | {"data.eval_context": "clip", "data.clip_samples": stage.k + GRID}}
        labels = {"recurrence": recurrence, "pooling": pooling, "trained": trained, "k": stage.k}
        settings = {**network, **kind, **stage.settings, **(stage.carried if trained == "carried" else {})}
        before = runs[-1].name if runs else after
        runs.append(Run(f"{name}_k{stage.k}", "configs/memory.yaml", settings, labels, before, tests))
    return runs


def memory() -> Experiment:
    """The NLL of repeats against the distance k."""
    pooled, unpooled, tight = {"model.levels": POOLED}, {"model.levels": UNPOOLED}, f"{GRID}, tight"
    main = chain("complex", STAGES, pooled, "complex", tight)
    first = main[0].name
    runs = (
        *main,
        *chain("none", STAGES[:7], pooled, "none", tight),
        *chain("carried", STAGES[1:7], pooled, "complex", tight, "carried", first),
        *chain("real", STAGES[:7], pooled, "real", tight),
        *chain("split", STAGES[1:2], pooled | SPLIT, "complex", tight, "split over 2", first),
        *chain("complex_frame", STAGES[:5], pooled | {"model.shift": "frame"}, "complex", f"{GRID}, frame"),
        *chain("complex_unpooled", STAGES[:5], unpooled, "complex", "none"),
        *chain("real_unpooled", STAGES[:5], unpooled, "real", "none"),
        *chain("none_unpooled", STAGES[:5], unpooled, "none", "none"),
    )
    return Experiment(
        name="memory",
        question="Does a model predict a motif that comes back after k samples of noise?",
        runs=runs,
        seeds=3,
        trial=("complex_k64", "complex_k256", "none_k64", "carried_k256", "split_k256", "complex_frame_k64", "real_unpooled_k64"),
        quick={"data.recordings": 8, "trainer.max_steps": 2, "trainer.val_check_interval": 2, "trainer.log_every_n_steps": 1},
        curve="k",
    )
