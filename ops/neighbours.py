"""What surrounds the recurrence and is bound by memory like it: one pass over memory each way on a GPU, ordinary operations elsewhere.

Under torch.compile they are ordinary operations on a GPU too, which its compiler then joins itself.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ops.choice import Implementation, choose


def gated_gelu(gate: Tensor, x: Tensor, implementation: Implementation = "auto") -> Tensor:
    """GELU(gate) x, with GELU(v) = v/2 (1 + tanh(sqrt(2/pi) (v + 0.044715 v^3))); shapes alike. See `ops/choice.py` for implementations."""
    if _by_kernel(implementation, x.device):
        from ops.triton.neighbours import fused_gated_gelu  # here, so that triton is loaded only where it computes

        return fused_gated_gelu(gate, x)
    return F.gelu(gate, approximate="tanh") * x


def gated_mlp(
    x: Tensor,
    gate: tuple[Tensor, Tensor],
    inner: tuple[Tensor, Tensor],
    outer: tuple[Tensor, Tensor],
    implementation: Implementation = "auto",
) -> Tensor:
    """W_o (GELU(W_g x + b_g) (W_i x + b_i)) + b_o, point-wise in time.

    Args:
        x: (..., D).
        gate, inner: weights (H, D) and biases (H,), as `torch.nn.Linear` keeps them.
        outer: weights (D, H) and bias (D,).
        implementation: see `ops/choice.py`. The kernel is for numbers of 16 bits, autocast's too: others have no matrix units that multiply
            them exactly, and are left to torch's products.

    Returns:
        y (..., D), in the dtype of x or of autocast.
    """
    device = x.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
    if dtype.itemsize == 2 and _by_kernel(implementation, x.device):
        from ops.triton.mlp import MAX_WIDTH, fused_gated_mlp

        if x.shape[-1] <= MAX_WIDTH:
            return fused_gated_mlp(*(t.to(dtype) for t in (x, *gate, *inner, *outer)))
    return F.linear(gated_gelu(F.linear(x, *gate), F.linear(x, *inner), implementation), *outer)


def causal_convolution(x: Tensor, before: Tensor, kernel: Tensor, bias: Tensor, implementation: Implementation = "auto") -> Tensor:
    """y_t = bias + sum_k kernel_k x_{t - (W - 1) + k}, each channel for itself.

    Args:
        x: (B, T, D).
        before: (B, W - 1, D), what precedes it, in the same dtype.
        kernel, bias: (W, D) and (D,).
        implementation: see `ops/choice.py`.

    Returns:
        y (B, T, D), in the dtype of x.
    """
    if _by_kernel(implementation, x.device):
        from ops.triton.neighbours import fused_causal_convolution

        return fused_causal_convolution(x, before, kernel, bias)
    # Shifted sums beat the library's depthwise kernel on the CPU and need no transposes.
    time, padded, kernel = x.shape[1], torch.cat([before, x], dim=1), kernel.to(x.dtype)
    y = bias.to(x.dtype) + padded[:, :time] * kernel[0]
    for k in range(1, kernel.shape[0]):
        y = torch.addcmul(y, padded[:, k : k + time], kernel[k])
    return y


def _by_kernel(implementation: Implementation, device: torch.device) -> bool:
    return choose(implementation, device).name == "triton" and not torch.compiler.is_compiling()
