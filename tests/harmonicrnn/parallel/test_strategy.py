"""Checks that training and evaluation on a mesh of data x context ranks equal those of one process."""

import pytest
import torch

from harmonicrnn.models import LevelSpec, Prediction
from harmonicrnn.ops.prediction import Predictor
from tests.harmonicrnn.parallel.conftest import LENGTHS
from tests.harmonicrnn.parallel.fits import STEPS, compile_dense, fit, measure, poison, recompute
from tests.helpers import F32_GRADIENT, F64, relative_error

MESHES = [(2, 2), (4, 4), (4, 2)]  # number of ranks and context size: data x context is 1 x 2, 1 x 4 and 2 x 2
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
    "compiled": {"change": compile_dense, "network": {"levels": [LevelSpec(8, 1, 2), LevelSpec(8, 1)]}},
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


SAME = (compile_dense, recompute)  # changes that do not affect the results of one process


@pytest.fixture(scope="module")
def alone(ranks, folder):
    """Returns a function that gives one process's results for a case, each computed once."""
    made = {}

    def make(case):
        options = {name: value for name, value in FLOAT64[case].items() if value not in SAME}
        if str(options) not in made:
            (made[str(options)],) = ranks.run(1, fit_on_a_rank, folder, None, options)
        return made[str(options)]

    return make


# The suite tries each case on one mesh, and cases that depend on the data rank on the mesh split both ways; the long suite tries the rest.
# "paper" and "paper, sequential" are in test_a_run_goes_on_on_any_mesh.
SPLIT_ONE_WAY = ("recomputed", "prediction", "sequential")
# Of "real" and "frame", test_slices.py tests the split and its gradients; tests/lightning_modules/test_compiled_forward.py tests "compiled"
QUICK = {case: [] for case in ("paper", "paper, sequential", "real", "frame", "compiled")} | dict.fromkeys(SPLIT_ONE_WAY, MESHES[:1])
ON_MESHES = [
    pytest.param(case, mesh, marks=[] if mesh in QUICK.get(case, MESHES[2:]) else [pytest.mark.slow]) for case in FLOAT64 for mesh in MESHES
]


@pytest.mark.parametrize(("case", "mesh"), ON_MESHES, ids=str)
def test_three_steps_in_float64(ranks, folder, alone, case, mesh):
    """Compares loss, gradients on every rank and weights after AdamW; clips of 40 do not divide, and shorter ones are masked."""
    world, context = mesh
    compare(ranks.run(world, fit_on_a_rank, folder, context, FLOAT64[case]), alone(case), F64, F64)


def fit_on_a_rank(folder, context, options):
    return fit(folder, context, **options)


def test_one_rank_is_no_strategy(ranks, folder, alone):
    compare(ranks.run(1, fit_on_a_rank, folder, 1, {}), alone("complex"), 1e-300, 1e-300)


@pytest.mark.parametrize("batch_size", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_odd_batches(ranks, folder, batch_size):
    options = {"data": {"batch_size": batch_size}}
    (alone,) = ranks.run(1, fit_on_a_rank, folder, None, options)
    compare(ranks.run(2, fit_on_a_rank, folder, 2, options), alone, F64, F64)


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_three_steps_in_float32(ranks, folder, world):
    """Compares with one process in float32; the weights are those after plain gradient descent."""
    options = {"dtype": torch.float32, "sgd": True}
    (alone,) = ranks.run(1, fit_on_a_rank, folder, None, options)
    compare(ranks.run(world, fit_on_a_rank, folder, 2, options), alone, F32_GRADIENT, 1e-5)


MIXED = {"precision": "bf16-mixed"}


def distance(result, exact):
    """Returns the relative distance of the first step's gradients, as one vector."""
    mine, expected = (torch.cat([g.double().flatten() for g in r["gradients"][0].values()]) for r in (result, exact))
    return ((mine - expected).norm() / expected.norm()).item()


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_bfloat16(ranks, folder, alone, world):
    """Mixed precision on slices is as far from float64 as on one process."""
    (whole,) = ranks.run(1, fit_on_a_rank, folder, None, MIXED)
    exact = alone("complex")
    own = distance(whole, exact)
    for result in ranks.run(world, fit_on_a_rank, folder, 2, MIXED):
        assert 0.3 * own < distance(result, exact) < 1.5 * own


@pytest.mark.parametrize(("world", "context"), [*(pytest.param(*mesh, marks=pytest.mark.slow) for mesh in MESHES[:2]), MESHES[2]])
@pytest.mark.parametrize(
    "data", [{}, {"scaling": "file", "eval_context": "file", "clip_samples": 48, "batch_size": 2}], ids=["clips", "files"]
)
def test_the_likelihood_is_that_of_one_process(ranks, folder, data, world, context):
    (alone,) = ranks.run(1, measure_on_a_rank, folder, None, data)
    assert alone["samples"] == sum(LENGTHS["test"])
    for result in ranks.run(world, measure_on_a_rank, folder, context, data):
        assert result["bits_per_sample"] == pytest.approx(alone["bits_per_sample"], abs=1e-6)
        assert (result["samples"], result["clips"]) == (alone["samples"], alone["clips"])
        assert torch.equal(result["curve"].isnan(), alone["curve"].isnan())
        assert relative_error(result["curve"].nan_to_num(), alone["curve"].nan_to_num()) < 1e-6


def test_the_likelihood_of_repeats_is_that_of_one_process(ranks, folder):
    """Uses float64 and motifs that are repeated after the split, with chunk bounds inside recordings."""
    data = {"distance": 64, "pairs": 2, "recordings": 16, "batch_size": 2}
    (alone,) = ranks.run(1, measure_on_a_rank, folder, None, data)
    assert alone["samples"] == 2 * 2 * 4
    for result in ranks.run(2, measure_on_a_rank, folder, 2, data):
        assert result["bits_per_sample"] == pytest.approx(alone["bits_per_sample"], rel=1e-9)
        assert result["samples"] == alone["samples"]


def measure_on_a_rank(folder, context, data):
    return measure(folder, context, **data)


MOVES = [((1, None), (2, 2)), ((2, 2), (4, 2)), ((4, 2), (4, 4)), ((4, 2), (2, 2))]  # the mesh of the checkpoint, and another
GOES_ON = [("paper, sequential", True), ("sequential", False), ("sequential", True), ("complex", True)]
QUICK_MOVES = [("paper, sequential", True, *MOVES[3])]
GOES_ON_FROM = [
    pytest.param(*case, *move, marks=[] if (*case, *move) in QUICK_MOVES else [pytest.mark.slow]) for case in GOES_ON for move in MOVES
]


@pytest.mark.parametrize(("case", "sgd", "began", "mesh"), GOES_ON_FROM, ids=str)
def test_a_run_goes_on_on_any_mesh(ranks, folder, tmp_path, case, sgd, began, mesh):
    """Resumes from a checkpoint of one mesh on another, as one process and an uninterrupted run do; with carried lane states and, for the
    paper's block, dropout."""
    options, checkpoint = FLOAT64[case] | {"max_steps": 2 * STEPS, "sgd": sgd}, tmp_path / "began.ckpt"
    ranks.run(began[0], fit_on_a_rank, folder, began[1], options | {"save": checkpoint, "stop": STEPS})
    (alone,) = ranks.run(1, fit_on_a_rank, folder, None, options | {"go_on": checkpoint})
    # AdamW amplifies rounding errors of another mesh where a gradient is next to nothing, so both start from one checkpoint.
    if sgd:
        (whole,) = ranks.run(1, fit_on_a_rank, folder, None, options)
        rest = {name: whole[name][STEPS:] for name in ("losses", "gradients")}
        compare([alone], rest | {"weights": whole["weights"]}, F64, F64)
    compare(ranks.run(mesh[0], fit_on_a_rank, folder, mesh[1], options | {"go_on": checkpoint}), alone, F64, F64)
