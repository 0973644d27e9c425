"""The presets of a model's architecture: "paper" and "griffin"."""

from dataclasses import dataclass
from math import pi
from typing import Literal, get_args

from harmonicrnn.errors import check_choice

Recurrence = Literal["complex", "real", "none", "lti", "gru"]
Norm = Literal["layer", "rms"]
Embedding = Literal["sinusoidal", "projected", "learned"]
Init = Literal["paper", "griffin"]
Preset = Literal["paper", "griffin"]


@dataclass(frozen=True)
class Architecture:
    """The settings of a preset, documented in `HarmonicRNN`; the defaults are the paper's, as in github.com/daniel-gallo/ssm at eabf865."""

    embedding: Embedding = "sinusoidal"
    norm: Norm = "layer"
    recurrence: Recurrence = "complex"
    recurrence_expansion: int = 2
    recurrence_projection: bool = True
    heads: int = 32
    conv_width: int = 0
    expansion: int = 2
    groups: int = 0
    modulus: tuple[float, float] = (0.9, 0.99)
    phase: tuple[float, float] = (0.0, 0.1 * pi)
    phase_grows: bool = False
    unit_first_step: bool = False
    max_root_slope: float = 200.0
    dropout: float = 0.2
    init: Init = "paper"

    def __post_init__(self) -> None:
        for name, kind in (("embedding", Embedding), ("norm", Norm), ("recurrence", Recurrence), ("init", Init)):
            check_choice(name, getattr(self, name), get_args(kind))
        low, high = self.modulus
        if not 0 < low < high < 1:
            raise ValueError(f"modulus must rise from above 0 to below 1, got {low} to {high}")
        if self.phase[0] > self.phase[1]:
            raise ValueError(f"phase must rise, got {self.phase[0]} to {self.phase[1]}")
        for name in ("recurrence_expansion", "heads", "expansion"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.conv_width < 0 or (self.conv_width == 0 and self.recurrence == "none"):
            raise ValueError(f"conv_width must be 0 for none, or more; at least 1 without a recurrence; got {self.conv_width}")
        if self.groups < 0:
            raise ValueError(f"groups must be 0 for one a channel, or more, got {self.groups}")
        if self.max_root_slope <= 0:
            raise ValueError(f"max_root_slope must be above 0, got {self.max_root_slope}")


PRESETS: dict[Preset, Architecture] = {
    "paper": Architecture(),
    # The recurrent block of Griffin (De et al., arXiv 2402.19427).
    "griffin": Architecture(
        embedding="projected",
        norm="rms",
        recurrence_expansion=1,
        recurrence_projection=False,
        heads=8,
        conv_width=4,
        expansion=3,
        groups=4,
        modulus=(0.9, 0.999),
        unit_first_step=True,
        max_root_slope=1000.0,
        dropout=0.0,
        init="griffin",
    ),
}
