"""The recurrence: what a linear RNN computes along time, and how; and what surrounds it and is bound by memory too.

Legend: B batch (lanes), T time, D width (channels), N units of the recurrence (D/2 complex or D real).
"""

from harmonicrnn.ops.cg_lru import cg_lru, cg_lru_summary, decay_and_phase
from harmonicrnn.ops.implementation import Choice, Implementation, choose
from harmonicrnn.ops.neighbours import block_diagonal_gates, causal_convolution, gated_gelu, gated_mlp, residual_norm
from harmonicrnn.ops.scan import linear_scan, linear_scan_summary
from harmonicrnn.ops.slices import Slices

__all__ = [
    "Choice",
    "Implementation",
    "Slices",
    "block_diagonal_gates",
    "causal_convolution",
    "cg_lru",
    "cg_lru_summary",
    "choose",
    "decay_and_phase",
    "gated_gelu",
    "gated_mlp",
    "linear_scan",
    "linear_scan_summary",
    "residual_norm",
]
