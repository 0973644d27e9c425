"""Tests of the sampler: greedy decoding, reproducible clips, random numbers and invalid arguments."""

import math

import numpy as np
import pytest
import torch

from harmonicrnn.errors import UserError
from harmonicrnn.generation import PlainEngine, generate
from harmonicrnn.generation.cpu import CPUEngine
from harmonicrnn.generation.sampler import generator
from harmonicrnn.models import LevelSpec
from tests.harmonicrnn.models.test_harmonic_rnn import make_model


def naive_greedy(net, prompt, samples):
    """Draws the most likely class repeatedly, computing the whole past anew for each sample."""
    classes = prompt
    for _ in range(samples):
        # The last class is unknown, but its logits do not depend on it.
        logits, _ = net(torch.cat([classes, torch.zeros(len(classes), 1, dtype=torch.long)], dim=1))
        classes = torch.cat([classes, logits[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
    return classes[:, prompt.shape[1] :]


@pytest.mark.parametrize("length", [0, 1, 5, 12])
def test_greedy_equals_recomputation(length, monkeypatch):
    monkeypatch.setattr("harmonicrnn.generation.sampler.PROMPT_CHUNK", 5)
    net = make_model()
    prompt = torch.randint(32, (2, length))
    assert torch.equal(generate(net, 20, 2, prompt=prompt, temperature=0), naive_greedy(net, prompt, 20))


def test_a_clip_is_a_function_of_seed_and_number():
    net = make_model(dtype=torch.float32)
    together, alone = generate(net, 12, 3, seed=4), generate(net, 12, 1, seed=4)
    assert torch.equal(together[:1], alone)
    assert torch.equal(together, generate(net, 12, 3, seed=4))
    assert not torch.equal(together[0], together[1])
    assert not torch.equal(alone, generate(net, 12, 1, seed=5))


@pytest.mark.parametrize("period", [100, 257])
def test_a_clip_is_the_same_whatever_is_drawn_at_once(period):
    class Periodic(CPUEngine):
        def draw(self, uniforms, temperature, top_p):
            lengths.append(uniforms.shape[1])
            return super().draw(uniforms, temperature, top_p)

    net, lengths = make_model(levels=(LevelSpec(8, 1),), dtype=torch.float32), []
    engine = Periodic(net, threads=1)
    engine.period = period
    clip = generate(net, 600, 1, seed=4, engine=engine)
    assert all(length % period == 0 for length in lengths[:-1])
    assert torch.equal(clip, generate(net, 600, 1, seed=4, engine=CPUEngine(net, threads=1)))
    assert torch.equal(clip[:, :70], generate(net, 70, 1, seed=4, engine=engine))


@pytest.mark.parametrize(("temperature", "top_p"), [(0, 1), (1, 1), (1, 0.5)])
@pytest.mark.parametrize("plain", [False, True])
def test_logits_that_are_not_finite_are_an_error(plain, temperature, top_p):
    net = make_model(levels=(LevelSpec(8, 1),))
    for where in (3, slice(None)):
        net.head.bias.data[where] = math.nan
        with pytest.raises(UserError, match=r"sample 0 of clip 0: the model's logits are not finite"):
            generate(net, 4, 2, temperature=temperature, top_p=top_p, engine=PlainEngine(net) if plain else None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"temperature": -1}, "^temperature must be 0 or more, got -1"),
        ({"temperature": math.nan}, "^temperature must be 0 or more"),
        ({"top_p": 0}, "^top_p must be above 0 and at most 1, got 0"),
        ({"top_p": -3}, "^top_p must be above 0 and at most 1"),
        ({"clips": 0}, "^clips must be at least 1, got 0"),
        ({"seed": -1}, "^seed must be 0 or more, got -1"),
        ({"samples": -1}, "^samples must be 0 or more, got -1"),
    ],
)
def test_arguments_that_make_no_sense(changes, message):
    with pytest.raises(UserError, match=message):
        generate(make_model(levels=(LevelSpec(8, 1),)), **({"samples": 1} | changes))


def test_each_seed_clip_and_redraw_has_random_numbers_of_its_own():
    """Seeds that differ only above 32 bits, which torch's own generator treats alike, must differ too."""
    triples = [(seed, clip, redraw) for seed in (0, 1, 5, 5 + 2**32, 5 + 2**64) for clip in range(3) for redraw in range(3)]
    assert len({tuple(generator(*triple).random(3).tolist()) for triple in triples}) == len(triples)
    assert np.array_equal(generator(5, 1, 2).random(3), generator(5, 1, 2).random(3))
