"""What surrounds the recurrence and is bound by memory like it: one pass over memory each way on a GPU, ordinary operations elsewhere.

Under torch.compile they are ordinary operations on a GPU too, which its compiler then joins itself.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harmonicrnn.ops.implementation import Implementation, choose


def gated_gelu(gate: Tensor, x: Tensor, implementation: Implementation = "auto") -> Tensor:
    """GELU(gate) x, with GELU(v) = v/2 (1 + tanh(sqrt(2/pi) (v + 0.044715 v^3))); shapes alike. See `ops/implementation.py`."""
    if _by_kernel(implementation, x.device):
        from harmonicrnn.ops.triton.neighbour_launches import fused_gated_gelu  # here, so that triton is loaded only where it computes

        return fused_gated_gelu(gate, x)
    return F.gelu(gate, approximate="tanh") * x


def residual_norm(x: Tensor, delta: Tensor | None, norm: nn.Module, implementation: Implementation = "auto") -> tuple[Tensor, Tensor]:
    """x + delta (x where that is None), and norm(x + delta): what the residual path goes on with, and what its next branch begins with.

    The kernel, in which the gradients of both results meet, takes the place of the `forward` of torch's RMSNorm over the last dimension and
    of what derives from it; any other layer is called, and so is one with hooks. x, delta and the results are (..., D), for the kernel of
    one dtype. See `ops/implementation.py`.
    """
    joins = delta is None or (delta.shape == x.shape and delta.dtype == x.dtype)
    plain = isinstance(norm, nn.RMSNorm) and norm.normalized_shape == x.shape[-1:] and not _has_hooks(norm)
    if _by_kernel(implementation, x.device) and joins and plain and norm.weight is not None and norm.eps is not None:
        from harmonicrnn.ops.triton.norm import fused_residual_norm

        return fused_residual_norm(x, delta, norm.weight.to(x.dtype), norm.eps)
    total = x if delta is None else x + delta
    return total, norm(total)


def gated_mlp(
    x: Tensor,
    gate: nn.Module,
    inner: nn.Module,
    outer: nn.Module,
    implementation: Implementation = "auto",
    residual: Tensor | None = None,
) -> Tensor:
    """outer(GELU(gate(x)) inner(x)), point-wise in time, added to a residual where there is one.

    The kernel is for numbers of 16 bits, autocast's too: in wider ones it would be bound by products, which torch's own do better. It is
    for plain linear layers with biases and without hooks; any others are called.

    Args:
        x: (..., D).
        gate, inner: layers from D to H channels.
        outer: a layer from H to D channels.
        implementation: see `harmonicrnn/ops/implementation.py`.
        residual: (..., D) or None.

    Returns:
        y (..., D), in the dtype of x or of autocast, or of its sum with a wider residual.
    """
    if _by_kernel(implementation, x.device) and _fit_together(x, gate, inner, outer):
        device = x.device.type
        wide = x.dtype == torch.float64 or not torch.is_autocast_enabled(device)  # autocast leaves float64 as it is
        dtype = x.dtype if wide else torch.get_autocast_dtype(device)
        if dtype.itemsize == 2:
            from harmonicrnn.ops.triton.mlp import MAX_WIDTH, fused_gated_mlp

            if x.shape[-1] <= MAX_WIDTH:
                weights = (t.to(dtype) for layer in (gate, inner, outer) for t in (layer.weight, layer.bias))
                within = residual is not None and residual.dtype == dtype and residual.shape == x.shape
                y = fused_gated_mlp(x.to(dtype), *weights, residual=residual if within else None)
                return y if residual is None or within else residual + y
    y = outer(gated_gelu(gate(x), inner(x), implementation))
    return y if residual is None else residual + y


def block_diagonal_gates(x: Tensor, weight: Tensor, bias: Tensor, implementation: Implementation = "auto") -> Tensor:
    """Both gates of each unit from the channels of its head alone: pre-activations as `harmonicrnn.ops.cg_lru` takes them.

    On a GPU one product with all the zeros between the heads: it is bound by memory too, and its result lies as the recurrence reads it.

    Args:
        x: (B, T, D).
        weight, bias: (H, D/H, 2N/H) and (H, 2N/H): of each head the recurrence gates' columns, then the input gates'.
        implementation: see `harmonicrnn/ops/implementation.py`.

    Returns:
        (B, T, 2N): the recurrence gates, then the input gates.
    """
    (heads, inputs, outputs), shape = weight.shape, x.shape[:2]
    if choose(implementation, x.device).name == "triton":
        diagonal = torch.eye(heads, dtype=weight.dtype, device=weight.device).view(heads, 1, 1, heads, 1)
        dense = (weight.view(heads, inputs, 2, 1, outputs // 2) * diagonal).view(heads * inputs, heads * outputs)
        return F.linear(x, dense.T, bias.view(heads, 2, outputs // 2).transpose(0, 1).flatten())
    blocks = x.reshape(-1, heads, inputs).transpose(0, 1)
    gates = torch.baddbmm(bias.unsqueeze(1), blocks, weight)
    return gates.view(heads, *shape, 2, outputs // 2).permute(1, 2, 3, 0, 4).reshape(*shape, heads * outputs)


def causal_convolution(x: Tensor, before: Tensor, kernel: Tensor, bias: Tensor, implementation: Implementation = "auto") -> Tensor:
    """y_t = bias + sum_k kernel_k x_{t - (W - 1) + k}, each channel for itself.

    Args:
        x: (B, T, D).
        before: (B, W - 1, D), what precedes it, in the same dtype.
        kernel, bias: (W, D) and (D,).
        implementation: see `harmonicrnn/ops/implementation.py`.

    Returns:
        y (B, T, D), in the dtype of x.
    """
    if _by_kernel(implementation, x.device):
        from harmonicrnn.ops.triton.neighbour_launches import fused_causal_convolution

        return fused_causal_convolution(x, before, kernel, bias)
    # Shifted sums beat the library's depthwise kernel on the CPU and need no transposes.
    time, padded, kernel = x.shape[1], torch.cat([before, x], dim=1), kernel.to(x.dtype)
    y = bias.to(x.dtype) + padded[:, :time] * kernel[0]
    for k in range(1, kernel.shape[0]):
        y = torch.addcmul(y, padded[:, k : k + time], kernel[k])
    return y


def _has_hooks(layer: nn.Module) -> bool:
    """Whether somebody waits for the layer to be called."""
    return bool(layer._forward_hooks or layer._forward_pre_hooks or layer._backward_hooks or layer._backward_pre_hooks)


def _fit_together(x: Tensor, gate: nn.Module, inner: nn.Module, outer: nn.Module) -> bool:
    """Whether they are the layers of an MLP that a kernel may take the place of."""
    layers = [layer for layer in (gate, inner, outer) if type(layer) is nn.Linear and layer.bias is not None and not _has_hooks(layer)]
    shapes = [layer.weight.shape for layer in layers]
    return len(layers) == 3 and shapes[0] == shapes[1] == shapes[2][::-1] and shapes[0][1] == x.shape[-1]


def _by_kernel(implementation: Implementation, device: torch.device) -> bool:
    return choose(implementation, device).name == "triton" and not torch.compiler.is_compiling()
