"""The linear recurrence h_t = a_t h_{t-1} + x_t, and the one place that chooses how it is computed."""

from torch import Tensor

from ops.doubling import linear_scan_doubling


def linear_scan(a: Tensor, x: Tensor, h0: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """h_t = a_t h_{t-1} + x_t along time, with gradients for a, x, h0 and through the last state.

    Args:
        a: (B, T, N), float32, float64, complex64 or complex128.
        x: (B, T, N), same dtype and device.
        h0: (B, N), the state before the first step; None is zero.

    Returns:
        h of shape (B, T, N), and the last state (B, N), which is h0 where T = 0.

    Raises:
        ValueError: shapes or dtypes do not fit together.
    """
    if a.shape != x.shape or x.dim() != 3:
        raise ValueError(f"a and x must share one shape (batch, time, units); got {tuple(a.shape)} and {tuple(x.shape)}")
    if h0 is None:
        h0 = x.new_zeros(x.shape[0], x.shape[2])
    if h0.shape != (x.shape[0], x.shape[2]):
        raise ValueError(f"h0 must have shape {(x.shape[0], x.shape[2])} (batch, units); got {tuple(h0.shape)}")
    if not a.dtype == x.dtype == h0.dtype:
        raise ValueError(f"a, x and h0 must share one dtype; got {a.dtype}, {x.dtype} and {h0.dtype}")
    if x.device.type == "cpu":
        from ops.cpu import linear_scan_cpu  # here, so that numba is loaded only where it computes

        return linear_scan_cpu(a, x, h0)
    return linear_scan_doubling(a, x, h0)
