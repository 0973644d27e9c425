"""Loads a trained classifier of digits for scoring clips: this project's or that of the published tables.

The latter, the file resnext.pth of the S4/SaShiMi repository, is a pickled module, and unpickling it would run code of that repository. Its
modules are replaced by records of their attributes, and only tensors are taken out.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from inspect import signature
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harmonicrnn.checkpoints import DIGIT_ACCURACY, KEY, net_weights, read_checkpoint
from harmonicrnn.errors import UserError
from harmonicrnn.metrics import Classified
from harmonicrnn.models.digit_net import CLASSES, RATE, SAMPLES, DigitNet, ResNeXt
from harmonicrnn.provenance import sha256

TOGETHER = 64  # clips per batch
TOLERANCE = 0.005  # of the test accuracy that identifies the published classifier


ARCHITECTURE: dict[str, Any] = {
    "stem": 64,
    "widths": (256, 512, 1024),
    "blocks": 3,
    "cardinality": 8,
    "group_width": 64,
    "hidden": None,
}
"""ResNeXt-29, 8 x 64d, of `harmonicrnn.models.digit_net.DigitNet`."""

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


class DigitClassifier:
    """Classifies clips.

    Attributes:
        name: of the classifier, for reports.
        rate: of its input audio in Hz.
        dimensions: of the features.
        weights: SHA-256 of its file, by file name.
        accuracy: on SC09's test split, according to its checkpoint or authors; None if unknown.
        published: whether its file holds weights for the architecture of the published scores.
    """

    rate = RATE

    def __init__(self, net: DigitNet, path: Path, accuracy: float | None, published: bool) -> None:
        self.net, self.accuracy, self.published = net.eval(), accuracy, published
        self.name = "s4 resnext" if published else "harmonicrnn resnext"
        self.dimensions = net.dimensions
        self.weights = {path.name: sha256(path)}

    @torch.no_grad()
    def __call__(self, clips: Iterable[Tensor], progress: Callable[[int], None] = lambda clips: None) -> Classified:
        """Returns features and float64 log-probabilities, on the CPU, of clips (T,) in [-1, 1] at 16 kHz, cut or padded to 1 s.

        Raises:
            UserError: a clip is empty or not finite.
        """
        device, remaining, first = next(self.net.parameters()).device, iter(clips), 0
        features, log_probabilities = [torch.empty(0, self.dimensions)], [torch.empty(0, CLASSES, dtype=torch.float64)]
        while group := list(islice(remaining, TOGETHER)):
            for i, clip in enumerate(group, start=first):
                if not clip.numel() or not clip.isfinite().all():
                    raise UserError(f"clip {i} has {'samples that are not finite' if clip.numel() else 'no samples'}")
            seen, logits = self.net(torch.stack([F.pad(clip, (0, SAMPLES - len(clip))) for clip in group]).to(device))
            features.append(seen.cpu())
            log_probabilities.append(logits.cpu().double().log_softmax(dim=1))
            first += len(group)
            progress(len(group))
        return Classified(torch.cat(features), torch.cat(log_probabilities))

    def why_not_beside_the_tables(self, accuracy: float) -> str | None:
        """Returns why its scores are not comparable with the published ones; None if they are.

        Args:
            accuracy: measured on SC09's test split.
        """
        if not self.published:
            return f"scored by another classifier ({self.name})"
        if abs(accuracy - TEST_ACCURACY) > TOLERANCE:
            return f"its classifier is right on {accuracy:.2%} of the test split, that of the tables on {TEST_ACCURACY:.2%}"
        return None


def load_digit_classifier(path: Path, device: torch.device | str = "cpu") -> DigitClassifier:
    """Loads a checkpoint trained with `configs/sc09_classifier.yaml`, or the S4/SaShiMi repository's resnext.pth.

    Raises:
        UserError: there is no such file, or it holds something else. Its code is never run.
    """
    path = Path(path)
    content = _read(path)
    if isinstance(content, dict) and KEY in content:
        checkpoint = read_checkpoint(path)
        if DIGIT_ACCURACY not in checkpoint:
            raise UserError(f"{path}: is of another model than a classifier of digits: train one (configs/sc09_classifier.yaml)")
        settings = checkpoint["hyper_parameters"]
        net = DigitNet(**{key: settings[key] for key in signature(DigitNet).parameters if key in settings})
        net.load_state_dict(net_weights(checkpoint))
        return DigitClassifier(net.to(device), path, checkpoint[DIGIT_ACCURACY].get("test"), published=False)
    weights = weights_of(content, path)
    with torch.device("meta"):  # only its shapes are needed
        own = ResNeXt(CLASSES, **ARCHITECTURE).state_dict()
    for name in (*own, *weights):
        if name not in weights or name not in own or weights[name].shape != own[name].shape:
            raise UserError(f"{path}: {name} is not as in the ResNeXt-29 (8 x 64d) that the published scores are of; take its resnext.pth")
    net = DigitNet(**ARCHITECTURE)
    net.resnext.load_state_dict(weights)
    return DigitClassifier(net.to(device), path, TEST_ACCURACY, published=True)


class Part:
    """Placeholder for a module of the pickled model: its attributes, without code."""


def _read(path: Path) -> Any:
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
    """Returns the tensors in contents of `_read`, by their names in `harmonicrnn.models.digit_net.ResNeXt` where known.

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
