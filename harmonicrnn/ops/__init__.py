"""Operations of linear RNNs along time: scans, the CG-LRU, linear prediction, and dropout with reproducible masks.

Legend: B batch (lanes), T time, D width (channels), N units of the recurrence (D/2 complex or D real).
"""

from harmonicrnn.ops.cg_lru import cg_lru, decay_and_phase
from harmonicrnn.ops.dropout_mask import combined_key, dropout, key_words
from harmonicrnn.ops.implementation import Choice, Implementation, choose
from harmonicrnn.ops.scan import linear_scan
from harmonicrnn.ops.slices import Slices

__all__ = [
    "Choice",
    "Implementation",
    "Slices",
    "cg_lru",
    "choose",
    "combined_key",
    "decay_and_phase",
    "dropout",
    "key_words",
    "linear_scan",
]
