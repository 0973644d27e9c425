"""Checks compiled kernels on their first use on a device against tensor operations, which replace them if they differ."""

import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.metadata import PackageNotFoundError, version

import torch
from torch import Tensor

OUTPUT_LIMIT, GRADIENT_LIMIT = 1e-4, 1e-3
"""Allowed max|a - b| / max|b| of the kernels' outputs and gradients in float32; rounding causes a tenth of it or less."""

_verdicts: dict[torch.device, str | None] = {}


def why_not_trusted(device: torch.device) -> str | None:
    """Checks the Triton kernels on a device at first use; returns the fault, after a warning, or None if there is none."""
    device = torch.device(device.type, torch.cuda.current_device()) if device == torch.device("cuda") else device
    if device not in _verdicts:
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            return None  # values cannot be read during graph capture; the warm-up has run the check
        # In a separate thread, free of this one's modes: tracing, inference, autocast.
        with ThreadPoolExecutor(1) as alone:
            why = alone.submit(_try_kernels, device).result()
        _verdicts[device] = None if why is None else f"the Triton kernels {why}"
        if why is not None:
            warn("the Triton kernels", why, device, "the recurrence is computed by ordinary tensor operations, many times slower")
    return _verdicts[device]


def warn(what: str, why: str, device: torch.device, instead: str) -> None:
    """Warns, naming the device and the versions."""
    warnings.warn(f"{what} on {name_of(device)} ({versions()}) {why}: {instead}", stacklevel=2)


def name_of(device: torch.device) -> str:
    """Returns a device's name, for a GPU its product name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def versions() -> str:
    """Returns the versions of torch, triton and CUDA."""
    try:
        triton = version("triton")
    except PackageNotFoundError:
        triton = "none"
    return f"torch {torch.__version__}, triton {triton}, CUDA {torch.version.cuda}"


def difference(values: Sequence[Tensor], references: Sequence[Tensor], limits: Sequence[float]) -> str | None:
    """Returns a message on the first output or gradient that differs from its reference or is NaN; None if none does."""
    for i, (value, reference, limit) in enumerate(zip(values, references, limits, strict=True)):
        found, expected = (t.detach().to(torch.promote_types(t.dtype, torch.float64)) for t in (value, reference))
        error = ((found - expected).abs().max() / expected.abs().max().clamp(min=1e-300)).item() if expected.numel() else 0.0
        if not error <= limit:
            return f"differ from plain tensor operations by {error:.1e} (value {i} of {len(values)}, allowed {limit:.0e})"
    return None


def _try_kernels(device: torch.device) -> str | None:
    try:
        for case in (_plain_scan, _gated_scan, partial(_gated_scan, real=True), _gated_summaries):
            found, expected = case(device)
            if why := difference(found, expected, [OUTPUT_LIMIT] * 2 + [GRADIENT_LIMIT] * (len(found) - 2)):
                return why
    except Exception as error:  # a compiler, driver or device can raise any error
        return f"fail: {type(error).__name__}: {error}"
    return None


STEPS, UNITS = 70, 3
"""Size of the test case: more than one chunk, and a partly filled block of units."""

Outcome = list[Tensor]


def _plain_scan(device: torch.device) -> tuple[Outcome, Outcome]:
    from harmonicrnn.ops.scan import scan

    g = torch.Generator().manual_seed(0)
    a, x, h0 = (torch.view_as_complex(torch.randn(*shape, 2, generator=g).to(device)) for shape in ((1, STEPS, UNITS),) * 2 + ((1, UNITS),))
    a = a / (1 + a.abs())
    return _outcome(lambda *given: scan(*given, "triton"), a, x, h0), _outcome(lambda *given: scan(*given, "reference"), a, x, h0)


def _gated_inputs(device: torch.device, parts: int) -> tuple[Tensor, ...]:
    """Returns x, gates, h0, rates, phases and fresh, for units of one or two real parts."""
    g = torch.Generator().manual_seed(0)
    shapes = ((1, STEPS, parts * UNITS), (1, STEPS, 2 * UNITS), (1, parts * UNITS), (UNITS,), (UNITS,))
    x, gates, h0, rates, phases = (torch.randn(*shape, generator=g).to(device) for shape in shapes)
    return x, gates, h0, -rates.abs(), phases, torch.ones(1, dtype=torch.bool, device=device)


def _gated_scan(device: torch.device, real: bool = False) -> tuple[Outcome, Outcome]:
    from harmonicrnn.ops.cg_lru import MAX_ROOT_SLOPE, plain
    from harmonicrnn.ops.fused import cg_lru

    *given, phases, fresh = _gated_inputs(device, 1 if real else 2)
    given += [] if real else [phases]

    def by(function: Callable[..., tuple[Tensor, Tensor]]) -> Outcome:
        return _outcome(lambda x, gates, h0, rates, phases=None: function(x, gates, rates, phases, h0, fresh, MAX_ROOT_SLOPE), *given)

    return by(cg_lru), by(plain)


def _gated_summaries(device: torch.device) -> tuple[Outcome, Outcome]:
    """Compares what ranks exchange: the product of a and the last state, and the gradient of h0."""
    from harmonicrnn.ops.cg_lru import plain
    from harmonicrnn.ops.fused import as_halves, cg_lru_adjoint_summary, cg_lru_summary

    x, gates, h0, rates, phases, fresh = _gated_inputs(device, 2)
    one = torch.cat([torch.ones_like(h0[:, :UNITS]), torch.zeros_like(h0[:, :UNITS])], dim=1)
    h0.requires_grad_()
    y, last = plain(x, gates, rates, phases, h0, fresh)
    (carry,) = torch.autograd.grad((y, last), h0, (y.detach(), last.detach()))
    with torch.no_grad():
        product = plain(torch.zeros_like(x), gates, rates, phases, one, fresh)[1]
        found_product, found_last, _ = cg_lru_summary(x, gates, rates, phases, h0, fresh)
        found_carry, _ = cg_lru_adjoint_summary(x, gates, rates, phases, fresh, y, last)
    return [as_halves(t) for t in (found_product, found_last, found_carry)], [product, last, carry]


def _outcome(function: Callable[..., tuple[Tensor, Tensor]], *inputs: Tensor) -> Outcome:
    """Returns both outputs, and the gradients of all inputs."""
    given = [t.detach().requires_grad_() for t in inputs]
    outputs = function(*given)
    return [*outputs, *torch.autograd.grad(outputs, given, [torch.cos(t.detach().abs()).to(t.dtype) for t in outputs])]
