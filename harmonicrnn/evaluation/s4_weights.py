"""Reads the weights of the published SC09 classifier: the file resnext.pth of the S4/SaShiMi repository.

It is a pickled module, and unpickling it would run code of that repository. Its modules are replaced by records of their attributes, and
only tensors are taken out.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harmonicrnn.errors import UserError

ARCHITECTURE: dict[str, Any] = {
    "stem": 64,
    "widths": (256, 512, 1024),
    "blocks": 3,
    "cardinality": 8,
    "group_width": 64,
    "hidden": None,
}
"""ResNeXt-29, 8 x 64d, of `harmonicrnn.models.DigitNet`."""

TEST_ACCURACY = 0.9808
"""Accuracy on SC09's test split, as reported by its authors."""

PICKLED = (
    "torch.nn.parallel.data_parallel.DataParallel",
    "models.resnext.CifarResNeXt",
    "models.resnext.ResNeXtBottleneck",
    "torch.nn.modules.container.Sequential",
    "torch.nn.modules.conv.Conv2d",
    "torch.nn.modules.batchnorm.BatchNorm2d",
    "torch.nn.modules.linear.Linear",
)

NAMES = {
    "conv_1_3x3": "stem",
    "bn_1": "stem_norm",
    "conv_reduce": "reduce",
    "bn_reduce": "reduce_norm",
    "conv_conv": "grouped",
    "bn": "grouped_norm",
    "conv_expand": "expand",
    "bn_expand": "expand_norm",
    "shortcut.shortcut_conv": "shortcut",
    "shortcut.shortcut_bn": "shortcut_norm",
    "classifier": "classifier",
}
"""Names of its layers, and their names in `harmonicrnn.models.digit_net.ResNeXt`."""


class Part:
    """Placeholder for a module of the pickled model: its attributes, without code."""


def read(path: Path) -> Any:
    """Returns a file's contents, on the CPU, with records in place of pickled modules.

    Raises:
        UserError: the file is missing, damaged, or contains other code.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    try:
        with torch.serialization.safe_globals([(Part, name) for name in PICKLED]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a wrong file can raise any error
        raise UserError(f"{path}: is damaged, or no classifier of digits; nothing in it was run") from error


def weights_of(content: Any, path: Path) -> dict[str, Tensor]:
    """Returns the tensors in contents of `read`, by their names in `harmonicrnn.models.digit_net.ResNeXt` where known.

    Raises:
        UserError: there are none.
    """
    if isinstance(content, Part):
        content = dict(_tensors(content))
    elif isinstance(content, dict):
        content = content.get("state_dict", content)
    if not isinstance(content, dict) or not content or not all(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"{path}: holds no weights of a classifier of digits")
    return {_translated(name.removeprefix("module.")): value for name, value in content.items()}


def _tensors(part: Part, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    attributes = vars(part)
    for kind in ("_parameters", "_buffers"):
        yield from ((prefix + name, value) for name, value in attributes.get(kind, {}).items() if value is not None)
    for name, inner in attributes.get("_modules", {}).items():
        if isinstance(inner, Part):
            yield from _tensors(inner, f"{prefix}{name}.")


def _translated(name: str) -> str:
    """Translates `stage_2.stage_2_bottleneck_0.conv_reduce.weight` to `stages.1.0.reduce.weight`, and so on."""
    layer, _, kind = name.rpartition(".")
    place = ""
    if found := re.fullmatch(r"stage_(\d)\.stage_\1_bottleneck_(\d)\.(.*)", layer):
        place, layer = f"stages.{int(found[1]) - 1}.{found[2]}.", found[3]
    return f"{place}{NAMES.get(layer, layer)}.{kind}"
