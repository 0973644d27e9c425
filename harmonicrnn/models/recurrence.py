"""GatedRecurrence, the CG-LRU as a layer: gates, parameters and their initialisation around `harmonicrnn.ops.cg_lru`."""

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harmonicrnn.models.initialisation import lecun_, parameter
from harmonicrnn.models.mixing import MixesTime
from harmonicrnn.models.presets import Architecture
from harmonicrnn.models.state import State, after
from harmonicrnn.ops import Implementation, cg_lru, decay_and_phase


@dataclass(frozen=True)
class RecurrenceState(State):
    """h (B, R) in float32, laid out as the output: real parts first for complex units."""

    h: Tensor
    fresh: Tensor


class GatedRecurrence(MixesTime):
    """CG-LRU (complex) or RG-LRU (real) with block-diagonal gates; see `harmonicrnn/ops/cg_lru.py` for the equations.

    Args:
        width: R; even for the complex unit.
        parts: number of heads (divides R and the number of units), initial ranges of |a|^(1/c) at an open gate and of the phase, and
            treatment of the first step.
        kind: "complex" has R/2 units, "real" has R.
        pooled: samples per step, by which the phase is multiplied if `parts.phase_grows`.
        scan: implementation of the recurrence; see `harmonicrnn/ops/implementation.py`.

    Raises:
        ValueError: an odd width, or one that heads do not divide.
    """

    def __init__(
        self, width: int, parts: Architecture, kind: Literal["complex", "real"], pooled: int = 1, scan: Implementation = "auto"
    ) -> None:
        super().__init__()
        self.scan: Implementation = scan
        if kind == "complex" and width % 2:
            raise ValueError(f"the complex recurrence needs an even width, got width {width}")
        units, heads = width // 2 if kind == "complex" else width, parts.heads
        if width % heads or units % heads:
            raise ValueError(f"heads ({heads}) must divide the width ({width}) and the recurrence's {units} units")
        self.heads, self.units = heads, units
        self.unit_first_step, self.max_root_slope = parts.unit_first_step, parts.max_root_slope
        # One product for both gates: each head's block has the recurrence gates' columns first, then the input gates'.
        self.gate_weight = parameter(
            (heads, width // heads, 2 * units // heads), width if parts.init == "paper" else width // heads, parts.init
        )
        self.gate_bias = nn.Parameter(torch.zeros(heads, 2 * units // heads))
        if parts.init == "paper":  # Flax's fan-in of stacked blocks: W over all blocks, b over their number
            lecun_(self.gate_bias.data, heads, parts.init)
        # |a|^(1/c) is drawn uniform in its square.
        low, high = parts.modulus
        half_log = -0.5 * torch.log(torch.rand(units) * (high**2 - low**2) + low**2)
        self.decay = nn.Parameter(torch.log(torch.expm1(half_log)))
        first, last = (edge * (pooled if parts.phase_grows else 1) for edge in parts.phase)
        self.phase = nn.Parameter(torch.rand(units) * (last - first) + first) if kind == "complex" else None

    def forward(self, x: Tensor, state: RecurrenceState | None = None) -> tuple[Tensor, RecurrenceState]:
        """x (B, T, R) to y (B, T, R)."""
        h0, fresh = (None, None) if state is None else (state.h, state.fresh)
        how = self.slices, self.scan, self.max_root_slope, self.unit_first_step
        y, last = cg_lru(x, self._gates(x), self.decay, self.phase, h0, fresh, *how)
        return y, RecurrenceState(last, after(self.fresh_lanes(x, state), x))

    def modulus_and_angle(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Returns |a_t| and arg a_t in radians (None for the real unit) for inputs x (B, T, R), each (B, T, N)."""
        log_modulus, angle = decay_and_phase(self._gates(x)[..., : self.units].float(), self.decay.float(), self.phase)
        return log_modulus.exp(), angle

    def _gates(self, x: Tensor) -> Tensor:
        return block_diagonal(x, self.gate_weight, self.gate_bias)


def block_diagonal(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Returns both gates' pre-activations, as `harmonicrnn.ops.cg_lru` takes them, from the channels of each unit's head.

    On a GPU one dense product including the zeros between heads: it is memory-bound too, and its output has the recurrence's layout.

    Args:
        x: (B, T, R).
        weight, bias: (H, R/H, 2N/H) and (H, 2N/H): for each head the recurrence gates' columns, then the input gates'.

    Returns:
        (B, T, 2N): the recurrence gates, then the input gates.
    """
    (heads, inputs, outputs), shape = weight.shape, x.shape[:2]
    if x.device.type == "cuda":
        diagonal = torch.eye(heads, dtype=weight.dtype, device=weight.device).view(heads, 1, 1, heads, 1)
        dense = (weight.view(heads, inputs, 2, 1, outputs // 2) * diagonal).view(heads * inputs, heads * outputs)
        return F.linear(x, dense.T, bias.view(heads, 2, outputs // 2).transpose(0, 1).flatten())
    blocks = x.reshape(-1, heads, inputs).transpose(0, 1)
    gates = torch.baddbmm(bias.unsqueeze(1), blocks, weight)
    return gates.view(heads, *shape, 2, outputs // 2).permute(1, 2, 3, 0, 4).reshape(*shape, heads * outputs)
