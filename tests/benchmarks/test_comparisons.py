"""The ablations and baselines: what they are, and that they run."""

import pytest

from benchmarks.experiments.comparisons import CONFIG, ablations, baselines, rates
from benchmarks.experiments.runner import Runner


@pytest.mark.parametrize("build", [ablations, rates, baselines])
def test_every_run_sees_the_same_clips_and_as_many(build):
    """Those of one config; but for the one that is given equal time instead."""
    experiment = build()
    assert {run.config for run in experiment.runs} == {CONFIG}
    shorter = [run.name for run in experiment.runs if any(key.startswith(("data.", "trainer.")) for key in run.settings)]
    assert shorter == (["unpooled_time"] if build is ablations else [])
    assert experiment.seeds == 3


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("build", [ablations, rates, baselines])
def test_a_trial_of_four_steps(build, tmp_path):
    """Up to fifteen trainings."""
    experiment = build()
    results = Runner(experiment, tmp_path, "cpu", quick=True).run(1)
    assert len(results) == len(experiment.runs)
    assert {(result.steps, len(result.validation)) for result in results} == {(4, 2)}
