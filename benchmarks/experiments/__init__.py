"""Experiments that anyone can repeat: named sets of runs of `fit` and `test`, and the tables and plots made of their results.

An experiment is declared by an `Experiment` (declare.py) and listed here; runner.py runs it, results.py keeps one CSV of it, a row a run,
report.py makes tables and plots of that. See `python -m benchmarks.experiments --help`.
"""

from collections.abc import Callable

from benchmarks.experiments.comparisons import ablations, baselines, rates
from benchmarks.experiments.context import context
from benchmarks.experiments.declare import Experiment
from benchmarks.experiments.memory import memory

EXPERIMENTS: dict[str, Callable[[], Experiment]] = {
    "memory": memory,
    "ablations": ablations,
    "rates": rates,
    "baselines": baselines,
    "context": context,
}
"""By name; each builds its declaration when it is asked for."""
