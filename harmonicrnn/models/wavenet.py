"""WaveNet, a baseline: a stack of dilated causal convolutions (arXiv 1609.03499)."""

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from harmonicrnn.errors import check_choice
from harmonicrnn.models.autoregressive_net import AutoregressiveNet
from harmonicrnn.models.block import StackState
from harmonicrnn.models.conv import ConvState
from harmonicrnn.models.embedding import ClassEmbedding
from harmonicrnn.models.initialisation import linear
from harmonicrnn.models.mixing import MixesTime
from harmonicrnn.models.state import State, after, state_dtype

Embedding = Literal["sinusoidal", "learned"]


class DilatedLayer(MixesTime):
    """z_t = tanh(F [x_{t-d}, x_t]) * sigmoid(G [x_{t-d}, x_t]); x_t + R z_t is the next layer's input, S z_t is added to the output.

    Args:
        width: D.
        skip: Channels of the skip sum.
        dilation: d, steps between the two taps.
        last: Whether it is the last layer, which needs no R.
    """

    def __init__(self, width: int, skip: int, dilation: int, last: bool) -> None:
        super().__init__()
        self.dilation = dilation
        self.taps = linear(2 * width, 2 * width)
        self.residual = None if last else linear(width, width)
        self.skip = linear(width, skip)

    def forward(self, x: Tensor, state: ConvState | None = None) -> tuple[Tensor, Tensor, ConvState]:
        """x (B, T, D) to the next layer's input (B, T, D), the skip output (B, T, S), and the state: the last d inputs."""
        before = state.window.to(x.dtype) if state else x.new_zeros(x.shape[0], self.dilation, x.shape[2])
        if self.slices is not None:
            before = self.slices.halo(x, before)
        padded = torch.cat([before, x], dim=1)
        signal, gate = self.taps(torch.cat([padded[:, : x.shape[1]], x], dim=-1)).chunk(2, dim=-1)
        z = signal.tanh() * gate.sigmoid()
        window = padded[:, x.shape[1] :].to(state_dtype(x))
        onward = x if self.residual is None else x + self.residual(z)
        return onward, self.skip(z), ConvState(window, after(self.fresh_lanes(x, state), x))


class WaveNet(AutoregressiveNet):
    """p(x_t | x_<t) by dilated causal convolutions with two taps, dilations 1, 2, 4 .. 2^(cycle - 1), repeated.

    Its context is `receptive_field` samples.

    Args:
        width: D, channels of the layers.
        skip: Channels of the sum of all layers' outputs.
        cycle: Layers per cycle of dilations.
        cycles: Number of cycles.
        bits: Bits per sample, 4 to 12; q = 2^bits classes.
        embedding: Embedding of classes: "sinusoidal" (fixed, with a linear map) or "learned".

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(
        self,
        width: int = 64,
        skip: int = 256,
        cycle: int = 10,
        cycles: int = 3,
        bits: int = 8,
        embedding: Embedding = "sinusoidal",
    ) -> None:
        super().__init__(bits)
        for name, value in (("width", width), ("skip", skip), ("cycle", cycle), ("cycles", cycles)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        check_choice("embedding", embedding, get_args(Embedding))
        self.cycle = cycle
        dilations = [2**i for _ in range(cycles) for i in range(cycle)]
        self.receptive_field = 1 + sum(dilations)
        self.embedding = ClassEmbedding(self.classes, width, "projected" if embedding == "sinusoidal" else embedding)
        ends = [False] * (len(dilations) - 1) + [True]
        self.layers = nn.ModuleList([DilatedLayer(width, skip, *each) for each in zip(dilations, ends, strict=True)])
        self.hidden = linear(skip, skip)
        self.head = linear(skip, self.classes)

    @property
    def unseen_in_weights(self) -> dict[str, str | int]:
        return {"cycle": self.cycle}

    def predict(self, delayed: Tensor, state: State | None) -> tuple[Tensor, StackState]:
        assert state is None or isinstance(state, StackState)
        x, total, states = self.embedding(delayed), 0, []
        for i, layer in enumerate(self.layers):
            x, skip, layer_state = layer(x, state.blocks[i] if state else None)
            total = total + skip
            states.append(layer_state)
        # The standard deviation of the sum grows with the square root of the number of layers.
        hidden = torch.relu(self.hidden(torch.relu(total / len(self.layers) ** 0.5)))
        return self.head(hidden), StackState(tuple(states))
