"""Helpers that tests of several folders share."""

from torch import Tensor

F64, F32, F32_GRADIENT = 1e-10, 1e-5, 1e-4  # largest relative errors: float64, float32 outputs, float32 gradients


def relative_error(a: Tensor, b: Tensor) -> float:
    """max|a - b| / max|b|."""
    assert a.shape == b.shape
    if not b.numel():
        return 0.0
    a, b = a.detach().resolve_conj(), b.detach().resolve_conj()
    scale = b.abs().max().item()
    return (a - b).abs().max().item() / (scale or 1.0)
