"""Training and evaluation on a mesh of data x context ranks equal those of one process."""

import pytest
import torch

from harmonicrnn.models import Prediction
from harmonicrnn.ops.prediction import Predictor
from tests.harmonicrnn.parallel.conftest import LENGTHS
from tests.harmonicrnn.parallel.fits import STEPS, compile_dense, fit, measure, poison, recompute
from tests.helpers import F32_GRADIENT, F64, relative_error

MESHES = [(2, 2), (4, 4), (4, 2)]  # ranks, context size: data x context of 1 x 2, 1 x 4, 2 x 2
FLOAT64 = {
    "complex": {},
    "real": {"network": {"recurrence": "real"}},
    "frame": {"network": {"shift": "frame"}},
    "paper": {"network": {"preset": "paper", "groups": 4, "dropout": 0.3}},
    "paper, sequential": {
        "network": {"preset": "paper", "groups": 1, "dropout": 0.3},
        "data": {"order": "sequential", "scaling": "file", "clip_samples": 48, "batch_size": 2},
    },
    "masked": {"masked": True},
    "sequential": {"data": {"order": "sequential", "scaling": "file", "clip_samples": 48, "batch_size": 2}},
    "averaged and clipped": {"ema": True, "gradient_clip_val": 0.05, "limit_val_batches": 1.0, "val_check_interval": 2},
    "compiled": {"change": compile_dense},
    "recomputed": {"change": recompute},
    "left out": {"change": poison},
    "prediction": {"network": {"prediction": Prediction((Predictor(5, 0.9, 4), Predictor(30, 0.97, 7)))}},
    "accumulated": {"accumulate_grad_batches": 2, "data": {"batch_size": 2}},
}


def compare(results, alone, gradients, weights):
    for step, loss in enumerate(alone["losses"]):
        mean = sum(result["losses"][step] for result in results) / len(results)
        assert relative_error(mean, loss) < gradients or (mean.isnan() and loss.isnan())
    for rank, result in enumerate(results):
        for mine, expected in zip(result["gradients"], alone["gradients"], strict=True):
            for name, grad in expected.items():
                assert relative_error(mine[name], grad) < gradients, (rank, name)
        for name, value in alone.get("logged", {}).items():
            assert relative_error(result["logged"][name], value) < 1e-6, (rank, name)
        for name, weight in alone["weights"].items():
            assert relative_error(result["weights"][name], weight) < weights, (rank, name)


@pytest.fixture(scope="module")
def alone(ranks, folder):
    """What one process makes of each case, made once."""
    made = {}

    def make(case):
        if case not in made:
            (made[case],) = ranks.run(1, fit_on_a_rank, folder, None, FLOAT64[case])
        return made[case]

    return make


# The plain cases on all meshes, the others on the one of several ranks both ways; on the rest too in the long suite.
ON_MESHES = [
    pytest.param(case, mesh, marks=[] if mesh == (4, 2) or case in ("complex", "paper") else [pytest.mark.slow])
    for case in FLOAT64
    for mesh in MESHES
]


@pytest.mark.parametrize(("case", "mesh"), ON_MESHES, ids=str)
def test_three_steps_in_float64(ranks, folder, alone, case, mesh):
    """Loss, gradients on every rank and weights after AdamW; clips of 40 do not divide, and shorter ones are masked."""
    world, context = mesh
    compare(ranks.run(world, fit_on_a_rank, folder, context, FLOAT64[case]), alone(case), F64, F64)


def fit_on_a_rank(folder, context, options):
    return fit(folder, context, **options)


def test_one_rank_is_no_strategy(ranks, folder):
    alone, under = (ranks.run(1, fit_on_a_rank, folder, context, {})[0] for context in (None, 1))
    compare([under], alone, 1e-300, 1e-300)


@pytest.mark.parametrize("batch_size", [1, 5])
def test_odd_batches(ranks, folder, batch_size):
    options = {"data": {"batch_size": batch_size}}
    (alone,) = ranks.run(1, fit_on_a_rank, folder, None, options)
    compare(ranks.run(2, fit_on_a_rank, folder, 2, options), alone, F64, F64)


def test_three_steps_in_float32(ranks, folder):
    """Against one process in float32; the weights after plain gradient descent."""
    options = {"dtype": torch.float32, "sgd": True}
    (alone,) = ranks.run(1, fit_on_a_rank, folder, None, options)
    compare(ranks.run(4, fit_on_a_rank, folder, 2, options), alone, F32_GRADIENT, 1e-5)


MIXED = {"precision": "bf16-mixed"}


def distance(result, exact):
    """Of the first step's gradients as one vector, relative."""
    mine, expected = (torch.cat([g.double().flatten() for g in r["gradients"][0].values()]) for r in (result, exact))
    return ((mine - expected).norm() / expected.norm()).item()


def test_bfloat16(ranks, folder):
    """Split, mixed precision is as far from float64 as it is whole."""
    exact, whole = (ranks.run(1, fit_on_a_rank, folder, None, options)[0] for options in ({}, MIXED))
    own = distance(whole, exact)
    for result in ranks.run(4, fit_on_a_rank, folder, 2, MIXED):
        assert 0.3 * own < distance(result, exact) < 1.5 * own


@pytest.mark.parametrize(
    "data", [{}, {"scaling": "file", "eval_context": "file", "clip_samples": 48, "batch_size": 2}], ids=["clips", "files"]
)
def test_the_likelihood_is_that_of_one_process(ranks, folder, data):
    (alone,) = ranks.run(1, measure_on_a_rank, folder, None, data)
    assert alone["samples"] == sum(LENGTHS["test"])
    for world, context in MESHES:
        for result in ranks.run(world, measure_on_a_rank, folder, context, data):
            assert result["bits_per_sample"] == pytest.approx(alone["bits_per_sample"], abs=1e-6)
            assert (result["samples"], result["clips"]) == (alone["samples"], alone["clips"])
            assert torch.equal(result["curve"].isnan(), alone["curve"].isnan())
            assert relative_error(result["curve"].nan_to_num(), alone["curve"].nan_to_num()) < 1e-6


def test_the_likelihood_of_repeats_is_that_of_one_process(ranks, folder):
    """In float64, on motifs that come back after the split, with the chunks' bounds inside of recordings."""
    data = {"distance": 64, "pairs": 2, "recordings": 16, "batch_size": 2}
    (alone,) = ranks.run(1, measure_on_a_rank, folder, None, data)
    assert alone["samples"] == 2 * 2 * 4
    for result in ranks.run(2, measure_on_a_rank, folder, 2, data):
        assert result["bits_per_sample"] == pytest.approx(alone["bits_per_sample"], rel=1e-9)
        assert result["samples"] == alone["samples"]


def measure_on_a_rank(folder, context, data):
    return measure(folder, context, **data)


GOES_ON = [("paper, sequential", True), ("sequential", False)]
GOES_ON += [pytest.param(case, True, marks=pytest.mark.slow) for case in ("sequential", "complex")]


@pytest.mark.parametrize(("case", "sgd"), GOES_ON)
def test_a_run_goes_on_on_any_mesh(ranks, folder, tmp_path, case, sgd):
    """From a checkpoint of one mesh on others, of 1 rank on 2, of 2 on 4, of 4 on 2 and 1, as one process, and as one that never stopped;
    with the states that lanes carry and, of the paper's block, with dropout."""
    options = FLOAT64[case] | {"max_steps": 2 * STEPS, "sgd": sgd}
    (whole,) = ranks.run(1, fit_on_a_rank, folder, None, options)
    whole = {"losses": whole["losses"][STEPS:], "gradients": whole["gradients"][STEPS:], "weights": whole["weights"]}
    for (began, context), others in (((1, None), [(2, 2)]), ((2, 2), [(4, 2)]), ((4, 2), [(4, 4), (2, 2)])):
        checkpoint = tmp_path / f"{began}.ckpt"
        ranks.run(began, fit_on_a_rank, folder, context, options | {"save": checkpoint, "stop": STEPS})
        (alone,) = ranks.run(1, fit_on_a_rank, folder, None, options | {"go_on": checkpoint})
        # AdamW blows up the rounding of the steps on another mesh where a gradient is next to nothing: one checkpoint then starts both.
        if sgd:
            compare([alone], whole, F64, F64)
        for world, context in others:
            compare(ranks.run(world, fit_on_a_rank, folder, context, options | {"go_on": checkpoint}), alone, F64, F64)
