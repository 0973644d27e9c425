"""The gated recurrence as a layer: gates, parameters and their initialisation around `harmonicrnn.ops.cg_lru`."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from harmonicrnn.models.mixing import MixesTime
from harmonicrnn.models.state import State, after
from harmonicrnn.ops import Implementation, block_diagonal_gates, cg_lru, decay_and_phase

MIN_MODULUS, MAX_MODULUS, MAX_PHASE = 0.9, 0.999, 0.1 * torch.pi


@dataclass(frozen=True)
class RecurrenceState(State):
    """h of shape (B, D) in float32, laid out as the output: for complex units real parts first."""

    h: Tensor
    fresh: Tensor


class GatedRecurrence(MixesTime):
    """CG-LRU (complex) or RG-LRU (real) with block-diagonal gates; see `harmonicrnn/ops/cg_lru.py` for the equations.

    Args:
        width: D; even for the complex unit.
        heads: H, blocks of the gates; divides D and the number of units.
        kind: "complex" has D/2 units, "real" has D.
        scan: how the recurrence is computed; see `harmonicrnn/ops/implementation.py`.

    Raises:
        ValueError: a width that is odd or that heads do not divide.
    """

    def __init__(self, width: int, heads: int, kind: Literal["complex", "real"], scan: Implementation = "auto") -> None:
        super().__init__()
        self.scan: Implementation = scan
        if kind == "complex" and width % 2:
            raise ValueError(f"the complex recurrence needs an even width, got width {width}")
        units = width // 2 if kind == "complex" else width
        if heads < 1 or width % heads or units % heads:
            raise ValueError(f"heads ({heads}) must divide the width ({width}) and the recurrence's {units} units")
        self.heads, self.units = heads, units
        fan_in = width // heads
        # One product for both gates: in each head's block the recurrence gate's columns come first, then the input gate's.
        self.gate_weight = nn.Parameter(torch.randn(heads, fan_in, 2 * units // heads) * fan_in**-0.5)
        self.gate_bias = nn.Parameter(torch.zeros(heads, 2 * units // heads))
        # |a| at a fully open gate, to the power 1/c, lies in [0.9, 0.999], uniform in its square.
        half_log = -0.5 * torch.log(torch.rand(units) * (MAX_MODULUS**2 - MIN_MODULUS**2) + MIN_MODULUS**2)
        self.decay = nn.Parameter(torch.log(torch.expm1(half_log)))
        self.phase = nn.Parameter(torch.rand(units) * MAX_PHASE) if kind == "complex" else None

    def forward(self, x: Tensor, state: RecurrenceState | None = None) -> tuple[Tensor, RecurrenceState]:
        """x and y (B, T, D)."""
        h0, fresh = (None, None) if state is None else (state.h, state.fresh)
        y, last = cg_lru(x, self._gates(x), self.decay, self.phase, h0, fresh, self.slices, self.scan)
        return y, RecurrenceState(last, after(self.fresh_lanes(x, state), x))

    def modulus_and_angle(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """|a_t| and arg a_t in radians (None for the real unit) that the input x (B, T, D) leads to, each (B, T, N)."""
        log_modulus, angle = decay_and_phase(self._gates(x)[..., : self.units].float(), self.decay.float(), self.phase)
        return log_modulus.exp(), angle

    def _gates(self, x: Tensor) -> Tensor:
        return block_diagonal_gates(x, self.gate_weight, self.gate_bias, self.scan)
