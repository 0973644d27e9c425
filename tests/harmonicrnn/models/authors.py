"""A small model with weights from the authors' code (github.com/daniel-gallo/ssm at eabf865, JAX and Flax), and its results there."""

from pathlib import Path

import numpy as np
import torch

from harmonicrnn.models import HarmonicRNN, LevelSpec

FILE = Path(__file__).parents[2] / "fixtures/authors_tiny.npz"
LEVELS = (LevelSpec(16, 2, 2), LevelSpec(16, 2, 3), LevelSpec(16, 2))


class Weights:
    """The Flax tree of a file, indexed by paths."""

    def __init__(self, path: Path) -> None:
        self.arrays = dict(np.load(path))

    def at(self, *path: str) -> torch.Tensor:
        return torch.from_numpy(self.arrays["".join(f"['{part}']" for part in ("params", *path))])

    def linear(self, name: str, *path: str) -> dict[str, torch.Tensor]:
        return {f"{name}.weight": self.at(*path, "kernel").T, f"{name}.bias": self.at(*path, "bias")}

    def norm(self, name: str, *path: str) -> dict[str, torch.Tensor]:
        return {f"{name}.weight": self.at(*path, "scale"), f"{name}.bias": self.at(*path, "bias")}

    def branch(self, name: str, *path: str) -> dict[str, torch.Tensor]:
        found = self.norm(f"{name}.norm", *path, "LayerNorm_0")
        return found | self.linear(f"{name}.gate", *path, "Dense_0") | self.linear(f"{name}.output", *path, "Dense_1")

    def block(self, name: str, place: tuple[str, ...], kind: str, i: int) -> dict[str, torch.Tensor]:
        mixer, mlp = ((*place, f"{kind}_{2 * i + k}") for k in range(2))
        unit = (*mixer, "layer", "RGLRU_0")
        # Ours has both gates' columns of a head side by side, the recurrence gate's first; in theirs number 0 is the input gate.
        weight, bias = (torch.cat([self.at(*unit, f"BlockDiagonalLinear_{k}", w) for k in (1, 0)], dim=-1) for w in "Wb")
        return {
            **self.branch(f"{name}.mixer", *mixer),
            **self.linear(f"{name}.mixer.layer.input", *unit, "Dense_0"),
            f"{name}.mixer.layer.recurrence.gate_weight": weight,
            f"{name}.mixer.layer.recurrence.gate_bias": bias,
            f"{name}.mixer.layer.recurrence.decay": self.at(*unit, "a_real_param"),
            f"{name}.mixer.layer.recurrence.phase": self.at(*unit, "a_imag_param"),
            **self.linear(f"{name}.mixer.layer.projection", *unit, "Dense_1"),
            **self.branch(f"{name}.mlp", *mlp),
            **self.linear(f"{name}.mlp.layer", *mlp, "layer", "Dense_0"),
        }

    def level(self, name: str, place: tuple[str, ...], levels: tuple[LevelSpec, ...]) -> dict[str, torch.Tensor]:
        depth = range(levels[0].depth)
        if len(levels) == 1:
            return {key: value for i in depth for key, value in self.block(f"{name}.blocks.{i}", place, "blocks", i).items()}
        found = self.level(f"{name}.inner", (*place, "inner_layer"), levels[1:])
        for i in depth:
            found |= self.block(f"{name}.pre.blocks.{i}", place, "down_blocks", i) | self.block(
                f"{name}.post.blocks.{i}", place, "up_blocks", i
            )
        down, up = (self.at(*place, f"{which}_pool", "Conv_0", "kernel")[:, 0] for which in ("down", "up"))
        found |= {f"{name}.down.weight": down.T[..., None], f"{name}.up.weight": up.flip(0).T[:, None]}
        return found | {f"{name}.{which}.bias": self.at(*place, f"{which}_pool", "Conv_0", "bias") for which in ("down", "up")}


def authors_model() -> HarmonicRNN:
    """Returns the model in evaluation mode, float32."""
    weights = Weights(FILE)
    net = HarmonicRNN(LEVELS, heads=4).eval()
    found = weights.level("levels", ("temporal_pyramid",), LEVELS)
    found |= weights.norm("head_norm", "norm") | weights.linear("head", "cls_head", "final")
    net.load_state_dict(found)
    return net


def authors_results() -> tuple[torch.Tensor, torch.Tensor, float]:
    """Returns classes (2, 36), logits (2, 36, 256) and the loss in bits."""
    arrays = Weights(FILE).arrays
    return torch.from_numpy(arrays["classes"]).long(), torch.from_numpy(arrays["logits"]), float(arrays["loss"])
