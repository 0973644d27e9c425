"""Compares linear prediction, compiled and in batched tensor operations, with its definition."""

import math
import subprocess
import sys
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from harmonicrnn.ops.prediction import Predictor, PredictorState, batched, compiled, definition
from harmonicrnn.ops.prediction.predictor import after_silence, autocorrelation, kernels_for, steps_to_last_solution

FORMS = pytest.mark.parametrize("form", [compiled, batched], ids=["compiled", "batched"])
DEFAULTS = [Predictor(16, 0.98, 16), Predictor(32, 0.995, 16), Predictor(256, 0.999, 80)]
SMALL = Predictor(5, 0.9, 7)
BY_ORDER = {"ids": lambda predictor: f"order {predictor.order}"}
TIME = 330


def noise(time, seed=0):
    return 2 * torch.rand(time, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 1


def sinusoids(partials, time):
    """Returns sinusoids in [-1, 1], with frequencies spread not quite evenly over the band."""
    g = torch.Generator().manual_seed(partials)
    jitter, phase = torch.rand(2, partials, 1, generator=g, dtype=torch.float64)
    frequency = 0.03 + 0.44 * (torch.arange(partials)[:, None] + 0.35 + 0.3 * jitter) / partials
    x = torch.sin(2 * math.pi * (frequency * torch.arange(time) + phase)).sum(dim=0)
    return x / x.abs().max()


def clips(time=TIME):
    t = torch.arange(time, dtype=torch.float64)
    return {
        "noise": noise(time),
        "signs": noise(time, 1).sign(),
        "sinusoids": 0.9 * sinusoids(5, time),
        "constant": torch.ones_like(t),
        "silence": torch.zeros_like(t),
        "square wave": 1 - 2 * (t // 25 % 2),
        "alternating": 1 - 2 * (t % 2),
        "impulse": (t == 10).double(),
        "impulses": (t % 50 == 0).double(),
        "silence after sound": torch.where(t < 200, sinusoids(3, time), 0),
        "sound after silence": torch.where(t < 200, 0, sinusoids(3, time)),
    }


def run(form, predictor, x, state=None, history=None, heard=None):
    """Returns the predictions p of lanes x (B, T), and the state after them; lanes begin with their first sample by default."""
    lanes = len(x)
    history = x.new_zeros(lanes, predictor.order) if history is None else history
    heard = torch.zeros(lanes, dtype=torch.int64) if heard is None else heard
    return form.predict(predictor, x, history, heard, state or PredictorState.start(predictor, lanes))


def run_in_chunks(form, predictor, x, sizes, heard=0):
    """Calls `run` chunk by chunk; returns the predictions (B, T + 1) of each sample and of the one after the last, and the final state."""
    state, history = PredictorState.start(predictor, len(x)), x.new_zeros(len(x), predictor.order)
    pieces, count = [], torch.full((len(x),), heard)
    for piece in x.split(sizes, dim=1):
        p, state = run(form, predictor, piece, state, history, count)
        pieces.append(p[:, :-1])
        history = torch.cat([piece.flip(1), history], dim=1)[:, : predictor.order]
        count = count + piece.shape[1]
    return torch.cat([*pieces, p[:, -1:]], dim=1), state


def by_definition(predictor, x):
    return torch.stack([definition.predict(predictor, lane) for lane in x])


@cache
def clips_by_definition(predictor):
    """Returns the predictions (B, T + 1) and the final r (B, n + 1) of all clips."""
    x = torch.stack(list(clips().values()))
    return by_definition(predictor, x), torch.stack([definition.autocorrelation(predictor, lane) for lane in x])


def test_the_definition_is_a_least_squares_fit_of_the_windowed_past():
    """Writes out the normal equations of the windowed samples as loops, and the schedule."""
    predictor, x = Predictor(3, 0.8, 4, white=1e-3, floor=1e-5), noise(11).numpy()
    p = definition.predict(predictor, torch.from_numpy(x))
    for heard, due in ((0, 0), (1, 1), (2, 2), (3, 3), (7, 4), (8, 8), (11, 8)):
        seen = [(due - s) * 0.8 ** (due - 1 - s) * x[s] for s in range(due)]
        r = [sum(seen[s] * seen[s - k] for s in range(k, due)) for k in range(4)]
        matrix = np.array([[r[abs(i - j)] + (i == j) * (1e-3 * r[0] + 1e-5) for j in range(3)] for i in range(3)])
        weights = np.linalg.solve(matrix, r[1:]) if due else np.zeros(3)
        expected = sum(weights[i] * x[heard - 1 - i] for i in range(3) if heard - 1 - i >= 0)
        assert p[heard].item() == pytest.approx(expected, abs=1e-13)


@FORMS
@pytest.mark.parametrize("white", [1e-4, 1e-2])
@pytest.mark.parametrize("predictor", DEFAULTS, **BY_ORDER)
def test_equals_the_definition(form, predictor, white):
    """The largest measured differences are 4e-14 in r and 5e-13 in p; the bounds for all clips are ten times as large."""
    predictor, x = replace(predictor, white=white), torch.stack(list(clips().values()))
    p, state = run(form, predictor, x)
    expected, r = clips_by_definition(predictor)
    assert (p - expected).abs().max() < 5e-12
    assert ((autocorrelation(predictor, state.sums) - r).abs() <= 4e-13 * r[:, :1]).all()
    assert not state.failed.any()


@FORMS
@pytest.mark.parametrize("time", [0, 1, 2, 3, 5, 7, 8])
def test_any_length(form, time):
    """Also tries lengths below the order."""
    x = noise(2 * time).view(2, time)
    p, state = run(form, SMALL, x)
    assert p.shape == (2, time + 1)
    assert (p - by_definition(SMALL, x)).abs().max() < 1e-13
    if not time:
        assert not any(tensor.any() for tensor in (p, *state))


@FORMS
@pytest.mark.parametrize("predictor", [SMALL, Predictor(3, 0.9, 1), Predictor(9, 0.95, 2), Predictor(20, 0.98, 64)], **BY_ORDER)
@pytest.mark.parametrize("sizes", [[1] * 90, [0, 1, 1, 5, 0, 13, 7, 63], [64, 26], [90, 0]], ids=["single", "uneven", "two", "none after"])
def test_any_split_equals_one_pass(form, predictor, sizes):
    x = torch.stack([noise(90), sinusoids(2, 90)])
    p, state = run(form, predictor, x)
    split, split_state = run_in_chunks(form, predictor, x, sizes)
    assert (split - p).abs().max() < 1e-11
    assert (split - by_definition(predictor, x)).abs().max() < 1e-11
    for value, whole in zip(split_state, state, strict=True):
        assert (value - whole).abs().max() <= 1e-10 * whole.abs().max()


@FORMS
@pytest.mark.parametrize("every", [1, 2, 3, 7, 80])
def test_what_a_lane_begins_with_may_be_no_sample(form, every):
    predictor, x = Predictor(4, 0.9, every), torch.stack([noise(100), sinusoids(2, 100)])
    delayed = torch.cat([torch.zeros(2, 1), x], dim=1)
    p, _ = run(form, predictor, delayed, heard=torch.tensor([-1, -1]))
    assert not p[:, 0].any()
    assert (p[:, 1:] - by_definition(predictor, x)).abs().max() < 1e-12
    for sizes in ([1, 100], [1] * 101, [0, 2, 99]):
        split, _ = run_in_chunks(form, predictor, delayed, sizes, heard=-1)
        assert (split - p).abs().max() < 1e-12


@FORMS
def test_lanes_that_have_heard_differently_much(form):
    """Each lane equals its own run, whatever its neighbours have heard; one lane is new."""
    heard, x = [0, 3, 20, 20, 41], noise(5 * 80).view(5, 80)
    alone = [run(form, SMALL, lane[None, : 30 + count])[0][0, count:] for lane, count in zip(x, heard, strict=True)]
    begun = [run(form, SMALL, lane[None, :count])[1] for lane, count in zip(x, heard, strict=True)]
    state = PredictorState(*(torch.cat(parts) for parts in zip(*begun, strict=True)))
    following = torch.stack([lane[count : count + 30] for lane, count in zip(x, heard, strict=True)])
    history = torch.stack([torch.cat([lane[:count].flip(0), torch.zeros(5)])[:5] for lane, count in zip(x, heard, strict=True)])
    p, _ = run(form, SMALL, following, state, history, torch.tensor(heard))
    assert (p - torch.stack(alone)).abs().max() < 1e-12


def test_threads_change_nothing():
    x, threads = noise(4 * 1200).view(4, 1200), torch.get_num_threads()
    found = []
    for count in (1, 2):
        torch.set_num_threads(count)
        found.append(run(compiled, DEFAULTS[0], x))
    torch.set_num_threads(threads)
    (p, state), (again, state_again) = found
    assert torch.equal(p, again)
    assert all(torch.equal(a, b) for a, b in zip(state, state_again, strict=True))


PARTIALS = {
    16: {1: 0.006, 2: 0.025, 4: 0.1, 8: 0.4},
    32: {1: 0.002, 2: 0.005, 4: 0.012, 8: 0.02},
    256: {1: 0.002, 2: 0.005, 4: 0.012, 8: 0.025, 16: 0.06},
}


@FORMS
@pytest.mark.parametrize("predictor", DEFAULTS, **BY_ORDER)
def test_sinusoids_are_predicted(form, predictor):
    """Bounds the error after 2,000 samples relative to the root mean square: twice the measured one, which grows with each partial."""
    x = torch.stack([sinusoids(partials, 3000) for partials in PARTIALS[predictor.order]])
    p, _ = run(form, predictor, x)
    errors = (x - p[:, :-1])[:, 2000:].abs().amax(dim=1) / x.pow(2).mean(dim=1).sqrt()
    assert (errors < torch.tensor(list(PARTIALS[predictor.order].values()))).all()
    assert (errors.diff() > 0).all()


@pytest.mark.parametrize("predictor", DEFAULTS, **BY_ORDER)
def test_noise_is_not_predicted(predictor):
    """The error on white noise has at least its power, and at most twice that, as many weights are fitted to few samples."""
    x = noise(4000)[None]
    p, _ = run(compiled, predictor, x)
    assert 1 < (x - p[:, :-1])[:, 1000:].pow(2).mean() / x.pow(2).mean() < 2


def largest_reflection(filters):
    """Returns the largest |reflection coefficient| of filters (B, n), by the step-down recursion.

    It is below 1 if and only if all poles lie inside the unit circle (Schur and Cohn).
    """
    a, largest = filters.clone(), torch.zeros(len(filters), dtype=torch.float64)
    while a.shape[1]:
        k = a[:, -1:]
        largest = torch.maximum(largest, k.abs()[:, 0])
        a = (a[:, :-1] + k * a[:, :-1].flip(1)) / (1 - k * k)
    return largest


def filters_along(form, predictor, x, ends):
    """Returns the filters (B, len(ends), n) of lanes x (B, T) after the samples in `ends`."""
    state, history, begin, found = PredictorState.start(predictor, len(x)), x.new_zeros(len(x), predictor.order), 0, []
    for end in ends:
        _, state = run(form, predictor, x[:, begin:end], state, history, torch.full((len(x),), begin))
        history = torch.cat([x[:, begin:end].flip(1), history], dim=1)[:, : predictor.order]
        begin = end
        found.append(state.filter)
    return torch.stack(found, dim=1)


@FORMS
@pytest.mark.parametrize(
    "predictor", [*DEFAULTS, Predictor(32, 0.995, 16, white=0.0, floor=0.0)], ids=["16", "32", "256", "32, nothing added"]
)
def test_every_filter_is_stable(form, predictor):
    x = torch.stack(list(clips().values()))
    filters = filters_along(form, predictor, x, [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, *range(64, TIME, 16)])
    assert filters.any(dim=2).sum() > 120
    assert (largest_reflection(filters.flatten(0, 1)) < 1).all()
    # The roots themselves, which take longer.
    for lane in filters[:, [9, -1]].flatten(0, 1) if predictor.order < 100 else filters[[0, 5], -1]:
        assert np.abs(np.roots([1.0, *(-lane).tolist()])).max(initial=0) < 1


@FORMS
def test_a_filter_that_cannot_be_solved_for_is_the_one_before(form):
    """Silence has no filter if nothing is added to r_0; sound after it has one again."""
    predictor = Predictor(4, 0.5, 8, white=0.0, floor=0.0)
    silence, sound = torch.zeros(2, 40, dtype=torch.float64), torch.stack([noise(40), noise(40, 1)])
    p, state = run(form, predictor, silence)
    assert not p.any()
    assert state.failed.tolist() == [10, 10]  # at 1, 2, 3, 4, 6, 8, 16, 24, 32 and 40
    p, state = run(form, predictor, torch.cat([silence, sound], dim=1))
    assert state.failed.tolist() == [10, 10]
    before = state.filter.clone()
    assert before.any(dim=1).all()
    # 0.5^(2 t) is 0 in float64 after 540 samples, which forgets the past.
    history = sound.flip(1)[:, :4]
    _, after = run(form, predictor, torch.zeros(2, 800, dtype=torch.float64), state, history, torch.tensor([80, 80]))
    assert (after.failed > state.failed).all()
    assert after.filter.any(dim=1).all()
    assert (largest_reflection(after.filter) < 1).all()
    _, last = run(
        form, predictor, torch.zeros(2, 80, dtype=torch.float64), after, torch.zeros(2, 4, dtype=torch.float64), torch.tensor([880, 880])
    )
    assert torch.equal(last.filter, after.filter)
    assert (last.failed == after.failed + 10).all()


@FORMS
@pytest.mark.parametrize("value", [1.0, -0.3])
def test_a_constant_without_anything_added(form, value):
    """The equations are all but singular: any solution found must be stable and predict the constant."""
    predictor = Predictor(16, 0.98, 16, white=0.0, floor=0.0)
    p, state = run(form, predictor, torch.full((1, 800), value, dtype=torch.float64))
    assert largest_reflection(state.filter) < 1
    assert p[0, -1].item() == pytest.approx(value, rel=0.01)


def test_solve_all_keeps_single_filters():
    sums = torch.zeros(3, 3, SMALL.order + 1, dtype=torch.float64)
    sums[0] = run(batched, SMALL, noise(50)[None])[1].sums[0]
    sums[2] = -sums[0]  # no autocorrelation at all
    before = noise(3 * SMALL.order).view(3, SMALL.order)
    filters, solved = batched.solve_all(SMALL, sums, before)
    assert solved.tolist() == [True, True, False]  # silence has its floor
    assert relative(filters[0], definition.solve(SMALL, autocorrelation(SMALL, sums[0]))) < 1e-13
    assert not filters[1].any()
    assert torch.equal(filters[2], before[2])


def relative(a, b):
    return ((a - b).abs().max() / b.abs().max()).item()


@FORMS
def test_what_steps_add_to_the_sums(form):
    """Checks `accumulate` for some of the steps of each lane, and what is left of the sums after silence."""
    x, history, steps = noise(3 * 30).view(3, 30), noise(3 * 9, 1).view(3, 9), torch.tensor([0, 30, 11])
    added = batched.accumulate(SMALL, x, history, steps)
    for lane, count in enumerate(steps.tolist()):
        alone = PredictorState.start(SMALL, 1)
        if count:
            _, alone = run(form, SMALL, x[lane : lane + 1, :count], None, history[lane : lane + 1], torch.tensor([3]))
        assert (added[lane] - alone.sums[0]).abs().max() < 1e-13
    silent = form.predict(
        SMALL, x.new_zeros(3, 13), x.new_zeros(3, 5), torch.tensor([3, 3, 3]), PredictorState.start(SMALL, 3)._replace(sums=added)
    )
    assert relative(after_silence(SMALL, added, torch.full((3,), 13)), silent[1].sums) < 1e-13


@FORMS
@pytest.mark.parametrize("piece", [1, 3, 64])
def test_long_inputs_run_in_pieces(form, piece, monkeypatch):
    """Compiled, to the bit."""
    x = torch.stack([noise(300), noise(300, 1), sinusoids(2, 300)])
    heard = torch.tensor([-1, 0, 0])
    x[0, 0] = 0
    whole = run(form, SMALL, x, heard=heard)
    monkeypatch.setattr(form, "PIECE", piece)
    pieces = run(form, SMALL, x, heard=heard)
    for value, expected in zip((pieces[0], *pieces[1]), (whole[0], *whole[1]), strict=True):
        assert (value - expected).abs().max() <= (0 if form is compiled else 1e-12) * expected.abs().max()


def test_accumulated_in_pieces(monkeypatch):
    """The windows are summed in pieces, as if they did not fit in memory at once."""
    x, history, steps = noise(2 * 200).view(2, 200), noise(2 * 5, 1).view(2, 5), torch.tensor([200, 173])
    expected, (p, state) = batched.accumulate(SMALL, x, history, steps), run(batched, SMALL, x)
    monkeypatch.setattr(batched, "ROOM", 500)
    assert relative(batched.accumulate(SMALL, x, history, steps), expected) < 1e-13
    again, state_again = run(batched, SMALL, x)
    assert (again - p).abs().max() < 1e-12
    assert relative(state_again.sums, state.sums) < 1e-13


@pytest.mark.parametrize("every", [1, 2, 5, 16, 50])
def test_the_schedule(every):
    predictor = Predictor(4, 0.9, every)
    due = [count for count in range(200) if predictor.is_due(count)]
    assert due == sorted({*range(every, 200, every), *(e for e in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48) if e < every)})
    assert [count for count in range(-1, 200) if compiled.is_due(count, every)] == due
    for heard in (-1, 0, 1, 7, 15, 16, 47, 48, 100):
        for steps in (0, 1, 2, 3, 17, 90):
            last = max((count - heard for count in due if heard < count <= heard + steps), default=0)
            assert steps_to_last_solution(predictor, torch.tensor([heard]), steps).tolist() == [last]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"order": 0}, "order of a predictor must be at least 1, got 0"),
        ({"decay": 0}, "decay of a predictor must be above 0 and below 1, got 0"),
        ({"decay": 1.0}, "decay of a predictor must be above 0 and below 1"),
        ({"decay": float("nan")}, "decay of a predictor must be above 0 and below 1"),
        ({"every": 0}, "every of a predictor must be at least 1, got 0"),
        ({"white": -1e-9}, "white of a predictor must be 0 or more"),
        ({"floor": -1e-9}, "floor of a predictor must be 0 or more"),
        ({"white": float("nan")}, "white of a predictor must be 0 or more"),
        ({"floor": float("inf")}, "floor of a predictor must be 0 or more"),
    ],
)
def test_numbers_out_of_range(wrong, message):
    with pytest.raises(ValueError, match=message):
        Predictor(**{"order": 4, "decay": 0.9, "every": 4} | wrong)


def test_the_form_of_a_device(monkeypatch):
    assert kernels_for(torch.device("cpu")) is compiled
    assert kernels_for(torch.device("cuda")) is batched
    monkeypatch.setattr("harmonicrnn.ops.prediction.predictor.installed", lambda package: package != "numba")
    assert kernels_for(torch.device("cpu")) is batched


PEAK = """
import sys, torch
from benchmarks.timing import peak_above
from harmonicrnn.ops.prediction import Predictor, PredictorState, batched, compiled
torch.set_num_threads(1)
predictor, form = Predictor(int(sys.argv[1]), 0.99, int(sys.argv[2])), {"batched": batched, "compiled": compiled}[sys.argv[3]]
x = torch.rand(1, int(sys.argv[4]), dtype=torch.float64)
history, heard, state = x.new_zeros(1, predictor.order), torch.zeros(1, dtype=torch.int64), PredictorState.start(predictor, 1)
form.predict(predictor, x[:, :3000], history, heard, state)
if sys.argv[3] == "batched":
    batched.accumulate(predictor, x[:, :3000], history, torch.tensor([3000]))
    print(peak_above(batched.accumulate, predictor, x, history, torch.tensor([x.shape[1]]))[1])
(p, _), grown = peak_above(form.predict, predictor, x, history, heard, state)
print(grown - p.nbytes)
"""


@pytest.mark.parametrize(
    ("order", "every", "form", "most"),
    [(16, 16, "batched", 200e6), (256, 80, "batched", 200e6), (16, 16, "compiled", 3e6), (256, 80, "compiled", 3e6)],
)
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells the peak")
def test_memory_does_not_grow_with_the_length(order, every, form, most):
    """Bytes beside samples and predictions, which are 8 each a sample; also of the sums that ranks exchange."""
    for samples in (1_000_000, 8_000_000):
        command = [sys.executable, "-c", PEAK, *map(str, (order, every, form, samples))]
        *sums, predictions = map(int, subprocess.run(command, check=True, capture_output=True, text=True).stdout.split())
        assert 0 < predictions < most
        assert all(0 < grown < 155e6 for grown in sums)
