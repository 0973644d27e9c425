"""Tests of HarmonicRNN: size, carried state, causality, bit depths, autocast and recomputation."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from harmonicrnn.audio import Quantiser
from harmonicrnn.models import HarmonicRNN, LevelSpec
from tests.helpers import F32, F32_GRADIENT, F64, relative_error

NESTED = (LevelSpec(8, 1, 2), LevelSpec(16, 1, 3), LevelSpec(8, 2))
SPLITS = {
    "single_samples": [*[1] * 19, 22],
    "unaligned": [5, 0, 1, 7, 13, 2, 0, 13],
    "empty_first": [0, 41, 0],
    "around_the_product": [6, 1, 11, 12, 6, 5],
}


def make_model(seed=0, dtype=torch.float64, **changes):
    torch.manual_seed(seed)
    settings = {"levels": NESTED, "bits": 5, "preset": "griffin", "heads": 2, "groups": 2} | changes
    model = HarmonicRNN(**settings)
    for name, parameter in model.named_parameters():
        if name.endswith("conv.kernel"):  # they start small, so that the recurrence would hardly see its input
            torch.nn.init.normal_(parameter)
        elif name.endswith(("norm.weight", "bias")):  # these start at 1 and 0, where a missing one would go unnoticed
            torch.nn.init.normal_(parameter, mean=float(name.endswith("norm.weight")), std=0.3)
        elif model.prediction is not None and name in ("head.weight", "steering.weight", "gate.out.weight"):  # these start at 0
            torch.nn.init.normal_(parameter, std=0.3)
    model.set_cells(*Quantiser(model.bits).cells())
    return model.to(dtype)


def make_classes(batch=2, time=41, classes=32, seed=5):
    return torch.randint(classes, (batch, time), generator=torch.Generator().manual_seed(seed))


def forward_in_pieces(model, classes, sizes, state=None):
    pieces = []
    for piece in classes.split(sizes, dim=1):
        logits, state = model(piece, state)
        pieces.append(logits)
    return torch.cat(pieces, dim=1), state


def gradients(model, logits, classes):
    return torch.autograd.grad(F.cross_entropy(logits.flatten(0, 1), classes.flatten()), list(model.parameters()))


PAPER = {"preset": "paper", "groups": 0, "dropout": 0.0}


@pytest.mark.parametrize(("changes", "size"), [({}, 7_272_704), ({"groups": 4}, 7_391_744), ({"preset": "griffin"}, 7_412_736)], ids=str)
def test_size(changes, size):
    """The first size is that of the authors' commit, the second that of the paper's four groups."""
    model = HarmonicRNN(**changes)
    assert sum(p.numel() for p in model.parameters()) == size
    assert model.pooling_product == 160


@pytest.mark.parametrize("sizes", SPLITS.values(), ids=SPLITS)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"recurrence": "real"},
        {"recurrence": "none"},
        {"shift": "frame"},
        {"conv_width": 1},
        {"embedding": "learned"},
        {"groups": 8},
        PAPER,
        PAPER | {"recurrence": "real", "conv_width": 3},
        {"conv_width": 0, "norm": "layer", "phase_grows": True},
    ],
    ids=lambda c: "-".join(map(str, c.values())) or "default",
)
def test_any_split_equals_one_pass(sizes, changes):
    model, classes = make_model(**changes), make_classes()
    whole, end = model(classes)
    pieces, piecewise_end = forward_in_pieces(model, classes, sizes)
    assert relative_error(pieces, whole) < F64
    for value, expected in zip(gradients(model, pieces, classes), gradients(model, whole, classes), strict=True):
        assert relative_error(value, expected) < F64
    # Both states lead to the same future.
    future = make_classes(time=17, seed=6)
    assert relative_error(model(future, piecewise_end)[0], model(future, end)[0]) < F64


def test_any_split_equals_one_pass_in_float32():
    model, classes = make_model(dtype=torch.float32), make_classes()
    whole, _ = model(classes)
    pieces, _ = forward_in_pieces(model, classes, SPLITS["unaligned"])
    assert relative_error(pieces, whole) < F32
    for value, expected in zip(gradients(model, pieces, classes), gradients(model, whole, classes), strict=True):
        assert relative_error(value, expected) < F32_GRADIENT


def test_no_samples_leave_the_state_unchanged():
    model, classes = make_model(), make_classes()
    _, state = model(classes[:, :7])
    logits, same = model(classes[:, :0], state)
    assert logits.shape == (2, 0, 32)
    assert same.levels.phase == state.levels.phase
    before, after = [], []
    state.map(lambda t: before.append(t) or t)
    same.map(lambda t: after.append(t) or t)
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
    _, fresh = model(classes[:, :0])
    assert fresh.fresh.all()
    assert fresh.levels.inner.inner.blocks[0].recurrence.fresh.all()


def test_state_buffers_have_one_shape_at_every_phase():
    model, classes = make_model(), make_classes()
    shapes = set()
    for time in range(14):
        found = []
        model(classes[:, :time])[1].map(lambda t, found=found: found.append((t.shape, t.dtype)) or t)
        shapes.add(tuple(found))
    assert len(shapes) == 1


def test_a_reset_lane_equals_a_separate_run():
    model, first, second = make_model(), make_classes(time=12), make_classes(time=20, seed=9)
    _, state = model(first)
    logits, _ = model(second, state.reset(torch.tensor([True, False])))
    assert relative_error(logits[:1], model(second[:1])[0]) < F64
    together, _ = model(torch.cat([first, second], dim=1))
    assert relative_error(logits[1:], together[1:, 12:]) < F64


def test_all_lanes_can_be_reset_in_the_middle_of_a_window():
    model, second = make_model(), make_classes(time=20, seed=9)
    _, state = model(make_classes(time=11))
    logits, _ = model(second, state.reset(torch.tensor([True, True])))
    assert relative_error(logits, model(second)[0]) < F64


def test_one_lane_cannot_be_reset_in_the_middle_of_a_window():
    model = make_model()
    _, state = model(make_classes(time=11))
    with pytest.raises(ValueError, match="pooling product"):
        state.reset(torch.tensor([True, False]))


def test_a_detached_state_carries_no_gradient():
    model, classes = make_model(), make_classes()
    state = model(classes)[1].detach()
    state.map(lambda t: pytest.fail("still in the graph") if t.requires_grad else t)


def test_the_input_is_delayed_by_one():
    """The logits at t predict the sample at t: they depend on the sample before it, not on it."""
    model, classes = make_model(), make_classes(batch=1, time=9)
    changed = classes.clone()
    changed[0, 4] = (changed[0, 4] + 1) % 32
    difference = (model(changed)[0] - model(classes)[0]).abs().amax(dim=(0, 2))
    assert (difference[:5] == 0).all()
    assert difference[5] > 0


def test_a_fresh_lane_starts_from_the_zero_level():
    model, classes = make_model(), make_classes(batch=1)
    with_zero_level = model.levels(model.embedding(torch.cat([torch.full((1, 1), 16), classes[:, :-1]], dim=1)))[0]
    assert relative_error(model(classes)[0], model.head(model.head_norm(with_zero_level))) < F64


@pytest.mark.parametrize("bits", [4, 12])
def test_bits(bits):
    model = make_model(bits=bits)
    logits, _ = model(make_classes(classes=2**bits))
    assert logits.shape == (2, 41, 2**bits)


def input_dependence(model, time):
    """Returns (time, time): the norm of the gradient of output t (after the levels) with respect to input s."""
    x = torch.randn(1, time, model.levels.pre.blocks[0].mixer.gate.in_features, dtype=torch.float64, requires_grad=True)
    y, _ = model.levels(x)
    weights = torch.randn(y.shape[-1], dtype=y.dtype)
    return torch.stack([torch.autograd.grad((y[0, t] * weights).sum(), x, retain_graph=True)[0][0].norm(dim=-1) for t in range(time)])


@pytest.mark.parametrize("shift", ["tight", "frame"])
@pytest.mark.parametrize("factor", [2, 3, 4, 5])
def test_causal_at_each_factor(factor, shift):
    model = make_model(levels=(LevelSpec(8, 1, factor), LevelSpec(8, 1)), shift=shift)
    dependence = input_dependence(model, 4 * factor + 1)
    assert torch.equal(dependence.triu(1), torch.zeros_like(dependence))
    assert (dependence.diagonal() > 0).all()


def test_causal_when_nested():
    dependence = input_dependence(make_model(), 19)
    assert torch.equal(dependence.triu(1), torch.zeros_like(dependence))


@pytest.mark.parametrize("factors", [(2,), (3,), (4,), (5,), (2, 3), (4, 4)], ids=str)
def test_the_tight_shift_is_tight(factors, monkeypatch):
    """With the skips cut, so that only the inner level connects input and output, the output at the last step of the first full window
    (of all levels) depends on that step, and on none after it."""
    model = make_model(levels=(*(LevelSpec(8, 1, p) for p in factors), LevelSpec(8, 1)), conv_width=1)
    level = model.levels
    for _ in factors:
        cut_skip(level, monkeypatch)
        level = level.inner
    product = torch.tensor(factors).prod().item()
    dependence = input_dependence(model, 3 * product)
    for k in range(1, 3):
        t = k * product + product - 1
        assert dependence[t, t] > 0
        assert (dependence[t, t + 1 :] == 0).all()


def cut_skip(level, monkeypatch):
    inner_path = level._through_inner

    def post_of_inner_only(x, state=None):
        return x, None

    def without_skip(x, state):
        pooled, *rest = inner_path(x, state)
        return pooled - x, *rest  # x + (pooled - x): the skip cancels in value and in gradient

    monkeypatch.setattr(level, "_through_inner", without_skip)
    monkeypatch.setattr(level.post, "forward", post_of_inner_only)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"levels": ()}, "levels is empty"),
        ({"levels": (LevelSpec(8, 1, 2),)}, r"levels\[0\] is the centre"),
        ({"levels": (LevelSpec(8, 1), LevelSpec(8, 1))}, r"levels\[0\].*factor of at least 2, got 1"),
        ({"levels": (LevelSpec(8, 0),)}, r"levels\[0\].*depth \(0\)"),
        ({"levels": (LevelSpec(9, 1),), "embedding": "learned", "heads": 1}, "even width, got width 9"),
        ({"levels": (LevelSpec(9, 1),), "recurrence": "real", "heads": 1}, "sinusoidal embedding needs an even width, got width 9"),
        ({"heads": 3}, r"heads \(3\) must divide the width \(8\)"),
        ({"groups": 3}, r"pooling groups \(3\) must divide the widths on both sides \(8 and 16\)"),
        ({"bits": 3}, "between 4 and 12, got 3"),
        ({"conv_width": -1}, "conv_width must be 0 for none"),
        ({"conv_width": 0, "recurrence": "none"}, "at least 1 without a recurrence"),
        ({"modulus": (0.9, 1.0)}, "modulus must rise from above 0 to below 1"),
        ({"dropout": 1.0}, "dropout must be at least 0 and below 1"),
        ({"norm": "batch"}, "norm must be one of layer, rms, got 'batch'"),
        ({"init": "zeros"}, "init must be one of paper, griffin, got 'zeros'"),
        ({"preset": "mamba"}, "preset must be one of paper, griffin"),
        ({"expansion": 0}, "expansion must be at least 1"),
    ],
)
def test_refuses_what_does_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        make_model(**changes)


def test_bf16_autocast_keeps_the_state_in_float32():
    model, classes = make_model(dtype=torch.float32), make_classes()
    with torch.autocast("cpu", torch.bfloat16):
        logits, state = model(classes)
        pieces, _ = forward_in_pieces(model, classes, SPLITS["unaligned"])
    state.map(lambda t: t if t.dtype in (torch.float32, torch.bool, torch.int64) else pytest.fail(str(t.dtype)))
    assert relative_error(logits.float(), model(classes)[0]) < 0.05  # 8 bits of mantissa, a dozen layers
    assert relative_error(pieces.float(), logits.float()) < 0.05


@pytest.mark.parametrize(("which", "share"), [((0,), 0.65), ((2,), 0.95), ((0, 1, 2), 0.1)], ids=str)
def test_recomputed_levels_change_memory_alone(which, share):
    """Outputs and gradients are the same, also those through carried and last states; less is saved (the blocks' inputs not counted)."""
    plain, classes = make_model(), make_classes()
    levels = tuple(replace(level, recompute=i in which) for i, level in enumerate(NESTED))
    recomputed = make_model(levels=levels)
    results, kept = [], []
    for model in (plain, recomputed):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, sizes=sizes: sizes.append(t.numel()) or t, lambda t: t):
            logits, state = forward_in_pieces(model, classes, [19, 22])
        end = sum(block.recurrence.h.sum() for block in state.levels.pre.blocks)
        loss = F.cross_entropy(logits.flatten(0, 1), classes.flatten()) + end
        results.append((logits, torch.autograd.grad(loss, list(model.parameters()))))
        kept.append(sum(sizes))
    (expected, expected_gradients), (logits, found) = results
    assert torch.equal(logits, expected)
    for gradient, reference in zip(found, expected_gradients, strict=True):
        assert torch.equal(gradient, reference)
    assert kept[1] < share * kept[0]
