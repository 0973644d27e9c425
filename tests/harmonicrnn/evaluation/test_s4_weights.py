"""Tests of the file resnext.pth of the S4/SaShiMi repository, rebuilt from its names and shapes."""

import math
import pickle
import sys
import types

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from harmonicrnn.errors import UserError
from harmonicrnn.evaluation.digit_classifier import load_digit_classifier, weights_of
from harmonicrnn.models.digit_net import ResNeXt
from tests.helpers import F64, relative_error


def as_theirs(kind):
    """Makes a class pickle under its module name in their repository."""
    kind.__module__ = "models.resnext"
    return kind


@as_theirs
class ResNeXtBottleneck(nn.Module):
    def __init__(self, inputs, width, inner, groups, stride):
        super().__init__()
        self.conv_reduce, self.bn_reduce = nn.Conv2d(inputs, inner, 1, bias=False), nn.BatchNorm2d(inner)
        self.conv_conv, self.bn = nn.Conv2d(inner, inner, 3, stride, 1, groups=groups, bias=False), nn.BatchNorm2d(inner)
        self.conv_expand, self.bn_expand = nn.Conv2d(inner, width, 1, bias=False), nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if inputs != width:
            self.shortcut.add_module("shortcut_conv", nn.Conv2d(inputs, width, 1, stride, bias=False))
            self.shortcut.add_module("shortcut_bn", nn.BatchNorm2d(width))

    def forward(self, x):
        y = self.bn_reduce(self.conv_reduce(x)).relu()
        y = self.bn(self.conv_conv(y)).relu()
        return (self.shortcut(x) + self.bn_expand(self.conv_expand(y))).relu()


@as_theirs
class CifarResNeXt(nn.Module):
    def __init__(self, stem=64, widths=(256, 512, 1024), blocks=3, cardinality=8, group_width=64):
        super().__init__()
        self.nlabels = 10
        self.conv_1_3x3, self.bn_1 = nn.Conv2d(1, stem, 3, padding=1, bias=False), nn.BatchNorm2d(stem)
        inputs = stem
        for i, width in enumerate(widths, start=1):
            stage = nn.Sequential()
            for j in range(blocks):
                inner = cardinality * (group_width * width // widths[0])
                block = ResNeXtBottleneck(inputs, width, inner, cardinality, 2 if i > 1 and j == 0 else 1)
                stage.add_module(f"stage_{i}_bottleneck_{j}", block)
                inputs = width
            setattr(self, f"stage_{i}", stage)
        self.classifier = nn.Linear(inputs, 10)

    def forward(self, x):
        x = self.stage_3(self.stage_2(self.stage_1(self.bn_1(self.conv_1_3x3(x)).relu())))
        return self.classifier(F.avg_pool2d(x, 8, 1).flatten(1))


@pytest.fixture
def theirs(monkeypatch):
    """Registers the two classes where a pickle looks for them; returns the network's class."""
    package, place = types.ModuleType("models"), types.ModuleType("models.resnext")
    monkeypatch.setitem(sys.modules, "models", package)
    monkeypatch.setitem(sys.modules, "models.resnext", place)
    for kind in (CifarResNeXt, ResNeXtBottleneck):
        setattr(place, kind.__name__, kind)
    return CifarResNeXt


def thin(module):
    """Makes each parameter one expanded number, so that the file is small but has the same names and shapes."""
    for name, parameter in list(module.named_parameters()):
        place, _, last = name.rpartition(".")
        setattr(module.get_submodule(place), last, nn.Parameter(torch.tensor(0.01).expand(parameter.shape)))
    for name, buffer in list(module.named_buffers()):
        place, _, last = name.rpartition(".")
        setattr(module.get_submodule(place), last, torch.ones((), dtype=buffer.dtype).expand(buffer.shape))
    return module


def random_values(module):
    generator = torch.Generator().manual_seed(0)
    for tensor in module.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(
                torch.rand(tensor.shape, generator=generator) + 0.1 if tensor.dim() == 1 else torch.randn(tensor.shape, generator=generator)
            )
    return module.double().eval()


def test_a_model_under_their_names_gives_the_same():
    shape = {"stem": 4, "widths": (8, 16, 24), "blocks": 2, "cardinality": 2, "group_width": 4}
    model, own = random_values(CifarResNeXt(**shape)), ResNeXt(10, **shape).double().eval()
    own.load_state_dict(weights_of({f"module.{name}": value for name, value in model.state_dict().items()}, "file"))
    images = torch.randn(3, 1, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    seen = []
    model.classifier.register_forward_hook(lambda *args: seen.append(args[1][0]))
    expected = model(images)
    features, logits = own(images)
    assert relative_error(logits, expected) < F64
    assert relative_error(features, seen[0]) < F64


@pytest.mark.parametrize("kept_as", ["module", "weights", "checkpoint"])
def test_their_file_is_read_without_running_it(theirs, tmp_path, monkeypatch, kept_as):
    """Reads a pickled DataParallel of the real shapes, or its weights alone: 1,024 features, and a provenance that names the repository."""
    with torch.device("meta"):
        model = theirs()
    model = nn.DataParallel(thin(model))
    path = tmp_path / "resnext.pth"
    torch.save(
        {"module": model, "weights": model.state_dict(), "checkpoint": {"state_dict": model.state_dict(), "epoch": 3}}[kept_as], path
    )

    def refuse(*args, **kwargs):
        raise AssertionError("code of the file was run")

    monkeypatch.setattr(CifarResNeXt, "__setstate__", refuse)
    classifier = load_digit_classifier(path)
    assert (classifier.published, classifier.name, classifier.accuracy, classifier.dimensions) == (True, "s4 resnext", 0.9808, 1024)
    assert list(classifier.weights) == ["resnext.pth"]
    if kept_as == "module":
        classified = classifier([torch.zeros(16_000)])
        assert classified.features.shape == (1, 1024)
        assert classified.log_probabilities[0].exp().tolist() == pytest.approx([0.1] * 10)
    assert sum(p.numel() for p in classifier.net.parameters()) == 34_425_546
    assert classifier.why_not_beside_the_tables(0.981) is None
    assert "95.00% of the test split, that of the tables on 98.08%" in classifier.why_not_beside_the_tables(0.95)


class Runs:
    def __reduce__(self):
        return math.sqrt, (4.0,)


def test_a_wrong_file_is_refused(theirs, tmp_path):
    path = tmp_path / "resnext.pth"
    with pytest.raises(UserError, match="there is no such file"):
        load_digit_classifier(path)
    small = theirs(stem=4, widths=(8, 16, 24), blocks=1, group_width=2)
    with torch.device("meta"):
        shallow = theirs(blocks=1)
    wrong = [
        (small, r"stem.weight is not as in the ResNeXt-29"),
        (thin(shallow).state_dict(), r"stages.0.1.reduce.weight is not as in"),
        ({"weight": torch.zeros(3)}, "stem.weight is not as in"),
        ({"accuracy": 0.98}, "holds no weights"),
        ({}, "holds no weights"),
        (Runs(), "nothing in it was run"),
    ]
    for content, message in wrong:
        torch.save(content, path)
        with pytest.raises(UserError, match=message):
            load_digit_classifier(path)
    path.write_bytes(pickle.dumps(Runs()))
    with pytest.raises(UserError, match="damaged"):
        load_digit_classifier(path)
    torch.save(small, path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match="damaged"):
        load_digit_classifier(path)
