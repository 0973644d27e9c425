"""Loads a trained classifier of digits for scoring clips: this project's or that of the published tables."""

from collections.abc import Callable, Iterable
from inspect import signature
from itertools import islice
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from harmonicrnn.checkpoints import DIGIT_ACCURACY, KEY, net_weights, read_checkpoint
from harmonicrnn.errors import UserError
from harmonicrnn.evaluation import s4_weights
from harmonicrnn.metrics import Classified
from harmonicrnn.models.digit_net import CLASSES, RATE, SAMPLES, DigitNet, ResNeXt
from harmonicrnn.provenance import sha256

TOGETHER = 64  # clips per batch
TOLERANCE = 0.005  # of the test accuracy that identifies the published classifier


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
        if abs(accuracy - s4_weights.TEST_ACCURACY) > TOLERANCE:
            return f"its classifier is right on {accuracy:.2%} of the test split, that of the tables on {s4_weights.TEST_ACCURACY:.2%}"
        return None


def load_digit_classifier(path: Path, device: torch.device | str = "cpu") -> DigitClassifier:
    """Loads a checkpoint trained with `configs/sc09_classifier.yaml`, or the S4/SaShiMi repository's resnext.pth.

    Raises:
        UserError: there is no such file, or it holds something else. Its code is never run.
    """
    path = Path(path)
    content = s4_weights.read(path)
    if isinstance(content, dict) and KEY in content:
        checkpoint = read_checkpoint(path)
        if DIGIT_ACCURACY not in checkpoint:
            raise UserError(f"{path}: is of another model than a classifier of digits: train one (configs/sc09_classifier.yaml)")
        settings = checkpoint["hyper_parameters"]
        net = DigitNet(**{key: settings[key] for key in signature(DigitNet).parameters if key in settings})
        net.load_state_dict(net_weights(checkpoint))
        return DigitClassifier(net.to(device), path, checkpoint[DIGIT_ACCURACY].get("test"), published=False)
    weights = s4_weights.weights_of(content, path)
    with torch.device("meta"):  # only its shapes are needed
        own = ResNeXt(CLASSES, **s4_weights.ARCHITECTURE).state_dict()
    for name in (*own, *weights):
        if name not in weights or name not in own or weights[name].shape != own[name].shape:
            raise UserError(f"{path}: {name} is not as in the ResNeXt-29 (8 x 64d) that the published scores are of; take its resnext.pth")
    net = DigitNet(**s4_weights.ARCHITECTURE)
    net.resnext.load_state_dict(weights)
    return DigitClassifier(net.to(device), path, s4_weights.TEST_ACCURACY, published=True)
