"""Checks that Python refuses the same arguments as the command line."""

import inspect
from types import UnionType
from typing import Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
import pytest

import datamodules
import lightning_modules
from callbacks.frechet_audio_distance import FrechetAudioDistance
from datamodules import AudioDataModule, AudioFolder, Memory, Synthetic
from harmonicrnn.audio import Quantiser
from harmonicrnn.errors import UserError
from harmonicrnn.generation.clip_writer import Settings
from harmonicrnn.models import HarmonicRNN, LevelSpec, WaveNet
from lightning_modules import HarmonicModule, OptimizerConfig, WaveNetModule

HARMONIC = {"levels": [LevelSpec(8, 1, 2), LevelSpec(8, 1)], "preset": "griffin", "heads": 2, "groups": 2}
WAVENET = {"width": 4, "skip": 4, "cycle": 2, "cycles": 1}
SMALL = {HarmonicRNN: HARMONIC, HarmonicModule: HARMONIC, WaveNet: WAVENET, WaveNetModule: WAVENET}
PUBLIC = [getattr(package, name) for package in (datamodules, lightning_modules) for name in package.__all__]
MADE = [each for each in PUBLIC if inspect.isclass(each) and each is not datamodules.Batch and not inspect.isabstract(each)]
MADE += [HarmonicRNN, WaveNet, Quantiser, Settings, FrechetAudioDistance]


def choices(hint):
    """Returns the values of the Literal in a type, or () if there is none."""
    if get_origin(hint) in (Union, UnionType):
        return [choice for part in get_args(hint) for choice in choices(part)]
    return get_args(hint) if get_origin(hint) is Literal else ()


def hints(made):
    """Returns the types of a class's arguments, including those it passes on to its base classes."""
    found = {}
    for each in made.__mro__:
        if "__init__" in vars(each):
            found = get_type_hints(each.__init__) | found
            if "kwargs" not in inspect.signature(each.__init__).parameters:  # others, such as the network's, are passed elsewhere
                return found
    return found


def make(made, root, **changes):
    where = {"root": root} if made in (AudioDataModule, AudioFolder) else {}
    return made(**where | SMALL.get(made, {}) | changes)


CHOICES = [(made, name) for made in MADE for name, hint in hints(made).items() if choices(hint)]


@pytest.mark.parametrize(("made", "name"), CHOICES, ids=lambda each: each if isinstance(each, str) else each.__name__)
def test_each_choice_is_one_of_those_that_there_are(made, name, tmp_path):
    known = choices(hints(made)[name])
    make(made, tmp_path)  # its other arguments are valid
    with pytest.raises(UserError, match=rf"{name} must be one of .*{known[-1]}, got '{known[0]}s'"):
        make(made, tmp_path, **{name: f"{known[0]}s"})


def test_there_are_choices_of_all_kinds():
    assert {made for made, _ in CHOICES} == {*MADE}
    found = {f"{made.__name__}.{name}" for made, name in CHOICES}
    assert {"AudioFolder.order", "Memory.counted", "HarmonicModule.compile", "OptimizerConfig.decayed", "Settings.format"} <= found


WHOLE = {
    AudioFolder: ["sample_rate", "bits", "clip_samples", "batch_size", "num_workers", "seed", "eval_clips"],
    Memory: ["distance", "motif", "grid", "pairs", "recordings"],
    Synthetic: ["clips"],
    OptimizerConfig: ["warmup_steps", "most_skips"],
    Settings: ["clips", "batch", "seed", "reject"],
    HarmonicModule: ["bits", "sample_rate"],
    Quantiser: ["bits"],
}


@pytest.mark.parametrize("wrong", [1.5, 8.0, "8", True, float("nan")], ids=repr)
@pytest.mark.parametrize(("made", "names"), WHOLE.items(), ids=lambda each: getattr(each, "__name__", ""))
def test_whole_numbers_are_whole(made, names, wrong, tmp_path):
    for name in names:
        with pytest.raises(UserError, match=rf"{name}.* must be a whole number, got {wrong!r}"):
            make(made, tmp_path, **{name: wrong})


@pytest.mark.parametrize("bits", [-8, 0, 3, 13, 16, 17])
@pytest.mark.parametrize("made", [AudioFolder, Quantiser, HarmonicModule], ids=lambda made: made.__name__)
def test_bits_are_in_range(made, bits, tmp_path):
    with pytest.raises(UserError, match=rf"bits must be between 4 and 12, got {bits}"):
        make(made, tmp_path, bits=bits)


def test_whole_numbers_of_numpy_are_whole_numbers(tmp_path):
    data = make(AudioFolder, tmp_path, bits=np.int64(10), batch_size=np.int32(4))
    assert (data.quantiser.classes, data.batch_size) == (1024, 4)
