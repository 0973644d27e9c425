"""Draws clips from a model with any engine."""

import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from harmonicrnn.errors import UserError, check_whole
from harmonicrnn.generation.engine import Engine, make_engine
from harmonicrnn.models import AutoregressiveNet, ModelState, undivided
from harmonicrnn.ops.implementation import without_compiling

CHUNK = 256  # samples drawn, written and held at a time, rounded up to whole periods of the engine
PROMPT_CHUNK = 1 << 14  # samples of a prompt in one pass: bounds memory, and longer passes are slower with small caches


@torch.inference_mode()
def generate(
    net: AutoregressiveNet,
    samples: int,
    clips: int = 1,
    *,
    prompt: Tensor | None = None,
    seed: int = 0,
    temperature: float = 1.0,
    top_p: float = 1.0,
    engine: Engine | None = None,
) -> Tensor:
    """Draws classes from the model, each conditioned on all before it.

    The prompt is processed in parallel. Clip i is a function of (seed, i), whatever the number of clips.

    Args:
        net: the model.
        samples: to draw for each clip.
        clips: B, drawn together.
        prompt: (T,) or (B, T) classes that the clips continue; None starts from silence.
        seed: of the random numbers.
        temperature: divides the logits; 0 takes the most likely class.
        top_p: draws only from the most likely classes, up to this cumulative probability.
        engine: steps the model; None for the fastest available.

    Returns:
        (B, samples) int64 on the CPU, without the prompt.

    Raises:
        UserError: an argument is out of range, or the model's logits are not finite.
    """
    check_arguments(clips, seed, temperature, top_p)
    if samples < 0:
        raise UserError(f"samples must be 0 or more, got {samples}")
    pieces = [] if prompt is None else torch.atleast_2d(prompt).split(PROMPT_CHUNK, dim=1)
    engine = make_engine(net) if engine is None else engine
    engine.start(spread(read_prompt(net, pieces), clips))
    drawn = draw(engine, samples, [generator(seed, i) for i in range(clips)], temperature, top_p)
    return torch.cat([torch.empty(clips, 0, dtype=torch.long), *(classes for classes, _ in drawn)], dim=1)


def check_arguments(clips: int, seed: int, temperature: float, top_p: float, seconds: float = 1.0, option: str = "") -> None:
    """Raises UserError if an argument is out of range; `option` is a prefix of its name in messages, such as "--"."""
    check_whole(f"{option}clips", clips, 1)
    check_whole(f"{option}seed", seed, 0)
    for wrong, name, value, bounds in (
        (not 0 < seconds < math.inf, "seconds", seconds, "above 0"),
        (not 0 <= temperature < math.inf, "temperature", temperature, "0 or more"),
        (not 0 < top_p <= 1, "top_p", top_p, "above 0 and at most 1"),
    ):
        if wrong:
            raise UserError(f"{option}{name} must be {bounds}, got {value}")


def draw(
    engine: Engine,
    samples: int,
    generators: Sequence[np.random.Generator],
    temperature: float = 1.0,
    top_p: float = 1.0,
    numbers: Sequence[int] | None = None,
    at_once: int = CHUNK,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yields the next samples of a started engine as they are drawn: classes (B, n) and nats (B, n), see `Engine.draw`.

    Args:
        engine: started with B lanes.
        samples: to draw in all.
        generators: of random numbers, one per lane, so that clips do not depend on one another or on the device.
        temperature, top_p: as for the engine.
        numbers: of the clips, one per lane, for messages; None for 0, 1, ...
        at_once: samples drawn at a time, rounded up to whole periods of the engine.

    Raises:
        UserError: the model's logits are not finite.
    """
    at_once = -(-at_once // engine.period) * engine.period
    uniforms = torch.empty(len(generators), 0, dtype=torch.float64)
    for start in range(0, samples, at_once):
        n = min(at_once, samples - start)
        # In pieces of one size, so that a clip does not depend on the engine or on its length.
        while uniforms.shape[1] < n:
            uniforms = torch.cat([uniforms, torch.from_numpy(np.stack([each.random(CHUNK) for each in generators]))], dim=1)
        classes, nats = engine.draw(uniforms[:, :n], temperature, top_p)
        if not nats.isfinite().all():
            step, lane = (~nats.isfinite().T).nonzero()[0].tolist()
            clip = lane if numbers is None else numbers[lane]
            raise UserError(f"sample {start + step} of clip {clip}: the model's logits are not finite; take an earlier checkpoint")
        yield classes, nats
        uniforms = uniforms[:, n:]


@torch.inference_mode()
def read_prompt(net: AutoregressiveNet, pieces: Iterator[Tensor] | Sequence[Tensor]) -> ModelState:
    """Returns the state after a prompt in consecutive pieces (B, n) of classes, one parallel pass each; without, one fresh lane."""
    device, state = next(net.parameters()).device, None
    with undivided(net):
        for piece in pieces:
            _, state = net(piece.to(device), state)
        if state is None:
            with without_compiling():
                _, state = net(torch.empty(1, 0, dtype=torch.long, device=device))
    return state


def spread(state: ModelState, clips: int) -> ModelState:
    """Repeats a state of one lane for `clips` lanes; a state of `clips` lanes is returned as it is.

    Raises:
        ValueError: it has another number of lanes.
    """
    if len(state.last) not in (1, clips):
        raise ValueError(f"prompts are one or as many as the {clips} clips, not {len(state.last)}")
    return state.map(lambda tensor: tensor.expand(clips, *tensor.shape[1:]).contiguous())


def starting_states(net: AutoregressiveNet, prompts: Tensor | None) -> Callable[[Sequence[int]], ModelState]:
    """Returns a function from clip numbers to their initial state, after prompts (1 or clips, T) of classes, or none."""
    if prompts is None or len(prompts) == 1:
        shared = read_prompt(net, [] if prompts is None else prompts.split(PROMPT_CHUNK, dim=1))
        return lambda numbers: spread(shared, len(numbers))
    return lambda numbers: read_prompt(net, prompts[list(numbers)].split(PROMPT_CHUNK, dim=1))


def generator(seed: int, clip: int, redraw: int = 0) -> np.random.Generator:
    """Returns the generator of a clip's redraw. Uses all bits of the seed; torch's CPU generator would use 32."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(clip, redraw)))
