import pytest
import torch

from generation import PlainEngine, generate
from models import LevelSpec
from tests.models.test_harmonic_rnn import make_model


def naive_greedy(net, prompt, samples):
    """The most likely class, over and over, with the whole past computed anew each time."""
    classes = prompt
    for _ in range(samples):
        # The class at the end is unknown, and its logits do not depend on it.
        logits, _ = net(torch.cat([classes, torch.zeros(len(classes), 1, dtype=torch.long)], dim=1))
        classes = torch.cat([classes, logits[:, -1].argmax(dim=-1, keepdim=True)], dim=1)
    return classes[:, prompt.shape[1] :]


@pytest.mark.parametrize("length", [0, 1, 5, 12])
def test_greedy_equals_recomputation(length):
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
    class Periodic(PlainEngine):
        def draw(self, uniforms, temperature, top_p):
            lengths.append(uniforms.shape[1])
            return super().draw(uniforms, temperature, top_p)

    net, lengths = make_model(levels=(LevelSpec(8, 1),), dtype=torch.float32), []
    engine = Periodic(net)
    engine.period = period
    clip = generate(net, 600, 1, seed=4, engine=engine)
    assert all(length % period == 0 for length in lengths[:-1])
    assert torch.equal(clip, generate(net, 600, 1, seed=4, engine=PlainEngine(net)))
    assert torch.equal(clip[:, :70], generate(net, 70, 1, seed=4, engine=engine))
