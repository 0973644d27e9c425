"""One sample after the other, from the model's ordinary forward pass."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from models import HarmonicRNN, ModelState, undivided


@torch.inference_mode()
def generate(
    net: HarmonicRNN, samples: int, clips: int = 1, *, prompt: Tensor | None = None, seed: int = 0, temperature: float = 1.0
) -> Tensor:
    """Classes drawn from the model, each given all before it.

    The prompt is processed in one pass. Clip i is a function of (seed, i), whatever the number of clips.

    Args:
        net: the model.
        samples: how many to draw for each clip.
        clips: B, drawn together.
        prompt: (T,) or (B, T) classes that the clips continue; None starts from silence.
        seed: of the random numbers.
        temperature: divides the logits; 0 takes the most likely class.

    Returns:
        (B, samples) int64 on the CPU, without the prompt.
    """
    device = next(net.parameters()).device
    # Inverting the distribution function of one uniform number a sample keeps clips apart from one another and from the device.
    uniforms = torch.stack([torch.rand(samples, generator=_generator(seed, i)) for i in range(clips)]).to(device)
    prompt = torch.empty(clips, 0, dtype=torch.long) if prompt is None else prompt.expand(clips, -1)
    drawn = torch.empty(clips, samples, dtype=torch.long, device=device)
    with undivided(net), _one_thread():
        _, state = net(prompt.to(device))
        for t in range(samples):
            drawn[:, t], state = draw(net, state, uniforms[:, t], temperature)
    return drawn.cpu()


def draw(net: HarmonicRNN, state: ModelState, uniform: Tensor, temperature: float) -> tuple[Tensor, ModelState]:
    """The next sample (B,) after a state, from numbers uniform in [0, 1) (B,), and the state after it."""
    # The logits do not depend on the sample they are of, only the state after it does: any class serves, and is then put right.
    logits, after = net(torch.zeros_like(uniform, dtype=torch.long)[:, None], state)
    if temperature == 0:
        classes = logits[:, 0].argmax(dim=-1)
    else:
        cumulative = torch.softmax(logits[:, 0].double() / temperature, dim=-1).cumsum(dim=-1)
        classes = torch.searchsorted(cumulative, uniform.double()[:, None] * cumulative[:, -1:], right=True)[:, 0]
        classes = classes.clamp(max=net.classes - 1)
    return classes, replace(after, last=classes)


@contextmanager
def _one_thread() -> Iterator[None]:
    """A single step is too little work to share: waiting for one another costs threads more than they gain."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _generator(seed: int, clip: int) -> torch.Generator:
    # Mixed, since generators with neighbouring seeds are not independent.
    mixed = (seed * 0x9E3779B97F4A7C15 + clip * 0xBF58476D1CE4E5B9) % 2**63
    return torch.Generator().manual_seed(mixed)
