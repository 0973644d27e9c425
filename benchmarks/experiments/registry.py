"""The experiments that there are."""

from collections.abc import Callable

from benchmarks.experiments.comparisons import ablations, baselines, rates
from benchmarks.experiments.declare import Experiment
from benchmarks.experiments.memory import memory

EXPERIMENTS: dict[str, Callable[[], Experiment]] = {"memory": memory, "ablations": ablations, "rates": rates, "baselines": baselines}
"""By name; each builds its declaration when it is asked for."""
