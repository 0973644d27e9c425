"""Tests of the kernels on a GPU: sizes, dtypes and repetitions that are too slow for the interpreter. Skipped without a CUDA device."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from harmonicrnn.models import HarmonicRNN, LevelSpec
from harmonicrnn.ops import cg_lru, fused, linear_scan
from harmonicrnn.ops.cg_lru import _parameters
from tests.harmonicrnn.ops.interpreted.conftest import poisoned_memory  # noqa: F401 - a fixture that all tests here use
from tests.harmonicrnn.ops.test_scan import NARROW_LIMITS, equal_in_16_bits, make_inputs, run
from tests.helpers import F32, F32_GRADIENT, F64, relative_error

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: the Triton kernels on a GPU are not tested")
LENGTHS = [1, 2, 63, 65, 1000, 16_000, 127_323]
LIMITS = {torch.float64: (F64, F64), torch.float32: (F32, F32_GRADIENT), torch.bfloat16: (6e-3, 1.2e-2)}


def gated_inputs(batch, time, units, dtype, complex_=True):
    g = torch.Generator("cuda").manual_seed(2)

    def draw(*shape, dtype=dtype):
        return torch.randn(*shape, generator=g, device="cuda").to(dtype)

    wide = torch.promote_types(dtype, torch.float32)
    width = 2 * units if complex_ else units
    inputs = [draw(batch, time, width), draw(batch, time, 2 * units), draw(units, dtype=wide) - 5]
    inputs += [draw(units, dtype=wide) if complex_ else None, draw(batch, width, dtype=wide)]
    return [t if t is None else t.requires_grad_() for t in inputs], torch.arange(batch, device="cuda") % 2 == 0


def gradients_of(inputs, fresh, implementation):
    y, last = cg_lru(*inputs, fresh, implementation=implementation)
    weights = torch.randn(y.shape, generator=torch.Generator("cuda").manual_seed(1), device="cuda").to(y.dtype)
    return [y, last], torch.autograd.grad((y * weights).sum() + last.sum(), [t for t in inputs if t is not None])


def on_device(*given):
    return [t.cpu() for t in linear_scan(*(g.cuda() for g in given), implementation="triton")]


@pytest.mark.parametrize("modulus", [(0.0, 0.9999), (0.99, 1.0)], ids=["from_zero", "near_one"])
@pytest.mark.parametrize("time", LENGTHS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.complex128], ids=str)
def test_scan_equals_float64(dtype, time, modulus):
    cpu = make_inputs(2, time, 5, dtype, modulus)
    wide = cpu[0].dtype
    outputs, gradients = run(on_device, cpu, dtype)
    expected, expected_gradients = run(partial(linear_scan, implementation="reference"), cpu, wide)
    single = dtype in (torch.float32, torch.complex64)
    for value, reference in zip(outputs, expected, strict=True):
        assert relative_error(value.to(wide), reference) < (F32 if single else F64)
    for value, reference in zip(gradients, expected_gradients, strict=True):
        assert relative_error(value.to(wide), reference) < (F32_GRADIENT if single else F64)


@pytest.mark.parametrize("complex_", [True, False], ids=["complex", "real"])
@pytest.mark.parametrize("time", LENGTHS)
@pytest.mark.parametrize("dtype", NARROW_LIMITS, ids=str)
def test_scan_of_numbers_of_16_bits(dtype, time, complex_):
    equal_in_16_bits(on_device, dtype, 2, time, 5, complex_, reference=partial(linear_scan, implementation="reference"))


@pytest.mark.parametrize("complex_", [True, False], ids=["complex", "real"])
@pytest.mark.parametrize("time", LENGTHS)
@pytest.mark.parametrize("dtype", LIMITS, ids=str)
def test_cg_lru_equals_float64(dtype, time, complex_):
    inputs, fresh = gated_inputs(2, time, 64, dtype, complex_)
    wide = [t if t is None else t.detach().double().requires_grad_() for t in inputs]
    outputs, gradients = gradients_of(inputs, fresh, "triton")
    expected, expected_gradients = gradients_of(wide, fresh, "reference")
    for value, reference in zip(outputs, expected, strict=True):
        assert relative_error(value.double(), reference) < LIMITS[dtype][0]
    for value, reference in zip(gradients, expected_gradients, strict=True):
        assert relative_error(value.double(), reference) < LIMITS[dtype][1]


@pytest.mark.parametrize("gate", [-200.0, 200.0], ids=["modulus_exactly_one", "gate_open"])
def test_extreme_gates_are_finite_in_bfloat16(gate):
    inputs, fresh = gated_inputs(2, 100, 64, torch.bfloat16)
    inputs[1] = torch.cat([torch.full_like(inputs[1][..., :64], gate), inputs[1][..., 64:]], dim=-1).detach().requires_grad_()
    for values in gradients_of(inputs, fresh, "triton"):
        assert all(value.isfinite().all() for value in values)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_gates_by_the_functions_of_the_device(dtype):
    """The device's functions are accurate to about two units in the last place each; the interpreter uses numpy's."""
    from tests.harmonicrnn.ops.interpreted.check_arithmetic import gates_are_right_to_rounding, moduli_near_one_have_no_bias

    gates_are_right_to_rounding(dtype, "cuda", factor=2)
    moduli_near_one_have_no_bias(dtype, "cuda")


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
def test_moduli_of_exactly_zero_and_next_to_one(dtype):
    """Half of the units forget everything, the others hardly anything."""
    inputs, fresh = gated_inputs(2, 1000, 64, dtype)
    inputs[2] = torch.tensor([3000.0, -12.0], device="cuda", dtype=inputs[2].dtype).repeat(32).requires_grad_()
    wide = [t if t is None else t.detach().double().requires_grad_() for t in inputs]
    outputs, gradients = gradients_of(inputs, fresh, "triton")
    expected, expected_gradients = gradients_of(wide, fresh, "reference")
    for value, reference in zip((*outputs, *gradients), (*expected, *expected_gradients), strict=True):
        assert relative_error(value.double(), reference) < LIMITS[dtype][1]


LONG, LATE = 2**24 + 1000, 500
"""Number of steps, each of 128 numbers, so that there are more than 2^31; and of the last steps, which are compared."""


@pytest.mark.slow
def test_offsets_of_more_than_32_bits():
    """The last steps and their gradients equal those from a state carried to them. About 40 GB."""
    inputs, fresh = gated_inputs(1, LONG, 64, torch.bfloat16)
    x, gates, decay, phase, h0 = inputs
    y, last = cg_lru(*inputs, fresh, implementation="triton")
    weights = torch.randn(1, LATE, 128, device="cuda").bfloat16()
    gradients = torch.autograd.grad((y[:, -LATE:] * weights).sum() + last.sum(), (x, gates))
    with torch.no_grad():
        early = (t[:, :-LATE] for t in (x, gates))
        _, middle = cg_lru(*early, decay, phase, h0, fresh, implementation="triton")
    late = [t[:, -LATE:].detach().double().requires_grad_() for t in (x, gates)]
    parameters = (decay.detach().double(), phase.detach().double())
    end, end_last = cg_lru(*late, *parameters, middle.double(), torch.zeros_like(fresh), implementation="reference")
    expected = torch.autograd.grad((end * weights).sum() + end_last.sum(), late)
    assert relative_error(y[:, -LATE:].double(), end) < LIMITS[torch.bfloat16][0]
    assert relative_error(last.double(), end_last) < F32_GRADIENT
    for value, reference in zip(gradients, expected, strict=True):
        assert relative_error(value[:, -LATE:].double(), reference) < LIMITS[torch.bfloat16][1]


@pytest.mark.slow
def test_offsets_of_more_than_32_bits_in_the_plain_scan():
    """Does the same with complex numbers as pairs: the state before the last steps is forgotten. About 20 GB."""
    a, x = (torch.rand(1, LONG, 64, 2, device="cuda", dtype=torch.bfloat16).requires_grad_() for _ in range(2))
    h, last = linear_scan(a * 0.5, x, implementation="triton")
    weights = torch.randn(1, LATE, 64, 2, device="cuda").bfloat16()
    found = torch.autograd.grad((h[:, -LATE:] * weights).sum() + last.real.sum(), (a, x))
    late = [t[:, -LATE:].detach().requires_grad_() for t in (a, x)]
    end, end_last = linear_scan(late[0] * 0.5, late[1], implementation="reference")
    expected = torch.autograd.grad((end * weights).sum() + end_last.real.sum(), late)
    kept = slice(LATE // 2, None)  # 0.71^250 of the earlier state is left
    assert relative_error(h[:, -LATE:][:, kept].double(), end[:, kept].double()) < NARROW_LIMITS[torch.bfloat16][0]
    assert relative_error(last, end_last) < F32
    for value, reference in zip(found, expected, strict=True):
        assert relative_error(value[:, -LATE:][:, kept].double(), reference[:, kept].double()) < NARROW_LIMITS[torch.bfloat16][1]


def test_slices_by_summary_equal_one_pass():
    inputs, fresh = gated_inputs(2, 3000, 64, torch.float64)
    y, last = cg_lru(*inputs, fresh, implementation="triton")
    x, gates, decay, phase, h0 = inputs
    late = slice(1001, None)
    _, middle = cg_lru(x[:, :1001], gates[:, :1001], decay, phase, h0, fresh, implementation="triton")
    rest = (x[:, late], gates[:, late], decay, phase)
    end, _ = cg_lru(*rest, middle, torch.zeros_like(fresh), implementation="triton")
    _, summed, _ = fused.cg_lru_summary(*rest[:2], *_parameters(decay, phase, middle.dtype), middle, torch.zeros_like(fresh))
    assert relative_error(end, y[:, late]) < F64
    assert relative_error(fused.as_halves(summed), last) < F64


def repeats_bit_by_bit(outcome):
    """Asserts that 50 runs give the same result, beside work on another stream that delays programs at random: no program waits for another
    and none may read what is not yet written."""
    first = outcome()
    other, noise = torch.cuda.Stream(), torch.randn(2048, 2048, device="cuda")
    for _ in range(50):
        with torch.cuda.stream(other):
            torch.cuda._sleep(int(torch.randint(10**6, (1,))))
            noise = (noise @ noise).tanh()
        assert all(torch.equal(a, b) for a, b in zip(outcome(), first, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_runs_repeat_bit_by_bit(dtype):
    inputs, fresh = gated_inputs(2, 20_000, 64, dtype)

    def recurrence():
        outputs, gradients = gradients_of(inputs, fresh, "triton")
        return *outputs, *gradients

    repeats_bit_by_bit(recurrence)


@pytest.mark.parametrize("dtype", [torch.complex64, torch.bfloat16], ids=str)
def test_plain_scans_repeat_bit_by_bit(dtype):
    a, x, _ = (t.cuda() for t in make_inputs(2, 20_000, 64, torch.complex128, (0.9, 1.0)))
    a, x = ((t.to(dtype) if dtype.is_complex else torch.view_as_real(t).to(dtype)).requires_grad_() for t in (a, x))

    def scan():
        h, last = linear_scan(a, x, implementation="triton")
        return h, last, *torch.autograd.grad(h.abs().sum() + last.abs().sum(), (a, x))

    repeats_bit_by_bit(scan)


LEVELS = (LevelSpec(32, 1, 4), LevelSpec(64, 2))


def losses_and_gradients(net, function, classes, bfloat16):
    with torch.autocast("cuda", torch.bfloat16, enabled=bfloat16):
        logits, _ = function(classes)
    loss = F.cross_entropy(logits.float().flatten(0, 1), classes.flatten())
    return loss, torch.autograd.grad(loss, list(net.parameters()))


def test_compiled_model_equals_the_plain_one():
    torch.manual_seed(0)
    net, classes = HarmonicRNN(LEVELS, preset="griffin", heads=4, scan="triton").cuda(), torch.randint(256, (2, 1001), device="cuda")
    loss, expected = losses_and_gradients(net, net, classes, False)
    compiled_loss, found = losses_and_gradients(net, torch.compile(net), classes, False)
    assert relative_error(compiled_loss, loss) < F32
    for value, reference in zip(found, expected, strict=True):
        assert relative_error(value, reference) < 1e-3


def test_compiled_model_is_as_near_to_float32_as_the_plain_one():
    """Compares the norms of the errors of all gradients, in bfloat16."""
    torch.manual_seed(0)
    net, classes = HarmonicRNN(LEVELS, preset="griffin", heads=4, scan="triton").cuda(), torch.randint(256, (2, 1001), device="cuda")
    _, exact = losses_and_gradients(net, net, classes, False)
    size = torch.stack([g.norm() for g in exact]).norm()
    for function in (net, torch.compile(net)):
        _, found = losses_and_gradients(net, function, classes, True)
        assert torch.stack([(value - reference).norm() for value, reference in zip(found, exact, strict=True)]).norm() < 0.05 * size


def test_gradients_through_slices_equal_one_pass():
    """Runs three slices one after the other, each from the state of the one before."""
    inputs, fresh = gated_inputs(2, 3000, 64, torch.float64)
    x, gates, decay, phase, h0 = inputs
    weights = torch.randn_like(x)
    y, last = cg_lru(*inputs, fresh, implementation="triton")
    expected = torch.autograd.grad((y * weights).sum() + last.sum(), inputs)
    loss, state, begins = 0, h0, fresh
    for part in (slice(0, 1000), slice(1000, 1001), slice(1001, None)):
        y, state = cg_lru(x[:, part], gates[:, part], decay, phase, state, begins, implementation="triton")
        loss, begins = loss + (y * weights[:, part]).sum(), torch.zeros_like(fresh)
    for value, reference in zip(torch.autograd.grad(loss + state.sum(), inputs), expected, strict=True):
        assert relative_error(value, reference) < F64


@pytest.mark.slow
def test_losses_of_200_steps_in_bfloat16_are_within_a_hundredth_of_float32():
    """Trains on a fixed mixture of tones, with new random phases at each step."""
    curves = []
    for bfloat16 in (False, True):
        torch.manual_seed(0)
        net = HarmonicRNN(LEVELS, preset="griffin", heads=4, scan="triton").cuda()
        optimizer, curve = torch.optim.AdamW(net.parameters(), lr=2e-3), []
        for _ in range(200):
            phases = torch.rand(8, 3, 1, device="cuda") * 6.3
            tones = torch.sin(torch.tensor([0.05, 0.11, 0.23], device="cuda")[:, None] * torch.arange(4000, device="cuda") + phases)
            classes = (tones.mean(dim=1) * 127 + 128).long()
            with torch.autocast("cuda", torch.bfloat16, enabled=bfloat16):
                logits, _ = net(classes)
            loss = F.cross_entropy(logits.float().flatten(0, 1), classes.flatten())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            curve.append(loss.item())
        curves.append(torch.tensor(curve))
    for mixed, single in zip(curves[1].split(20), curves[0].split(20), strict=True):
        assert relative_error(mixed.mean(), single.mean()) < 0.01
