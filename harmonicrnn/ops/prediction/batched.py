"""Linear prediction by batched tensor operations without a loop over time, for devices without compiled kernels.

A block is the samples between two solutions of the filter. A block's contribution to the sums is one matrix product; the sums at all block
ends are three linear scans over blocks; all filters are solved for together, in a loop over the order; all predictions are one product.
Long inputs are processed in pieces that need at most 64 MB for their windows.
"""

import torch
from torch import Tensor

from harmonicrnn.ops.prediction.predictor import EARLY, Predictor, PredictorState, after_silence, autocorrelation
from harmonicrnn.ops.scan import linear_scan

ROOM = 1 << 23
"""Elements of the windows held at a time: 64 MB."""

PIECE = 1 << 20
"""Samples, over all lanes, that are predicted at a time."""


def predict(predictor: Predictor, x: Tensor, history: Tensor, heard: Tensor, state: PredictorState) -> tuple[Tensor, PredictorState]:
    """As `predictor.predict` for a whole sequence; lanes with equal `heard` are batched."""
    p = x.new_empty(x.shape[0], x.shape[1] + 1)
    after = PredictorState(*(t.clone() for t in state))
    for count in heard.unique().tolist():
        lanes = (heard == count).nonzero()[:, 0]
        past, part, start = history[lanes], PredictorState(*(t[lanes] for t in state)), 0
        for piece in x.split(max(1, PIECE // len(lanes)), dim=1):
            own, end = piece[lanes], start + piece.shape[1]
            p[lanes, start : end + 1], part = _predict(predictor, own, past, count + start, part)
            past, start = torch.cat([own.flip(1), past], dim=1)[:, : predictor.order], end
        for target, value in zip(after, part, strict=True):
            target[lanes] = value
    return p, after


def accumulate(predictor: Predictor, x: Tensor, history: Tensor, steps: Tensor) -> Tensor:
    """Returns what the first steps (B,) of x (B, T) add to the sums, (B, 3, n + 1)."""
    sums = x.new_zeros(len(x), 3, predictor.order + 1)
    for count in steps.unique().tolist():
        lanes = (steps == count).nonzero()[:, 0]
        past, at_once = history[lanes], max(1, ROOM // (len(lanes) * (predictor.order + 1)))
        for piece in x[:, :count].split(at_once, dim=1):
            own = piece[lanes]
            sums[lanes] = _ends(predictor, _padded(predictor, own, past)[:, None], sums[lanes])[:, 0]
            past = torch.cat([own.flip(1), past], dim=1)[:, : predictor.order]
    return sums


def solve_all(predictor: Predictor, sums: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the filters (B, n) of sums (B, 3, n + 1) by Levinson-Durbin, or `before` where it fails, and which are new (B,)."""
    r = autocorrelation(predictor, sums)
    error = r[:, 0] * (1 + predictor.white) + predictor.floor
    solved, filters = torch.ones_like(error, dtype=torch.bool), r.new_zeros(len(r), predictor.order)
    for order in range(predictor.order):
        known = filters[:, :order]
        reflection = r[:, order + 1] - (known * r[:, 1 : order + 1].flip(1)).sum(dim=1)
        solved &= error > 0
        reflection = reflection / error
        solved &= reflection.abs() < 1
        filters[:, :order] = known - reflection[:, None] * known.flip(1)
        filters[:, order] = reflection
        error = error * (1 - reflection**2)
    return torch.where(solved[:, None], filters, before), solved


def _predict(predictor: Predictor, x: Tensor, history: Tensor, heard: int, state: PredictorState) -> tuple[Tensor, PredictorState]:
    """As `predict`, for lanes that have all seen `heard` samples."""
    (lanes, time), every = x.shape, predictor.every
    padded, pieces, position = _padded(predictor, x, history), list[Tensor](), 0

    def blocks(length: int, count: int) -> None:
        nonlocal position, state
        end = position + length * count
        p, state = _blocks(predictor, padded[:, position : end + predictor.order], length, state)
        pieces.append(p)
        position = end

    for count in EARLY:  # then multiples of `every`
        if heard + position < count < every and count <= heard + time:
            blocks(count - heard - position, 1)
    now = heard + position
    to_multiple = -now % every if now >= 0 else every - now  # no filter is solved for at 0
    if 0 < to_multiple <= time - position:
        blocks(to_multiple, 1)
    if (heard + position) % every == 0 and heard + position >= 0:
        at_once = max(1, ROOM // (lanes * every * (predictor.order + 1)))
        while whole := (time - position) // every:
            blocks(every, min(whole, at_once))
    rest = padded[:, None, position:]
    pieces.append(_predictions(rest, state.filter[:, None]).flatten(1))
    return torch.cat(pieces, dim=1), state._replace(sums=_ends(predictor, rest, state.sums)[:, -1])


def _blocks(predictor: Predictor, padded: Tensor, length: int, state: PredictorState) -> tuple[Tensor, PredictorState]:
    """Returns the predictions in consecutive blocks, each with a solution at its end, and the state after them."""
    windows = padded.unfold(1, length + predictor.order, length)
    sums = _ends(predictor, windows, state.sums)
    solved_filters, solved = solve_all(predictor, sums.flatten(0, 1), torch.zeros_like(sums[:, :, 0, 1:]).flatten(0, 1))
    solved, filters = solved.view(sums.shape[:2]), [state.filter]
    if solved.all():
        used = torch.cat([state.filter[:, None], solved_filters.view(*solved.shape, -1)], dim=1)
    else:  # rare: where it fails the previous filter stays
        for found, good in zip(solved_filters.view(*solved.shape, -1).unbind(1), solved.unbind(1), strict=True):
            filters.append(torch.where(good[:, None], found, filters[-1]))
        used = torch.stack(filters, dim=1)
    p = _predictions(windows[:, :, :-1], used[:, :-1]).flatten(1)
    return p, PredictorState(sums[:, -1], used[:, -1], state.failed + (~solved).sum(dim=1))


def _padded(predictor: Predictor, x: Tensor, history: Tensor) -> Tensor:
    """Returns history and x, (B, n + T), oldest first."""
    return torch.cat([history[:, : predictor.order].flip(1), x], dim=1)


def _predictions(windows: Tensor, filters: Tensor) -> Tensor:
    """Returns (B, blocks, L + 1) from windows (B, blocks, n + L) and the filter of each block (B, blocks, n)."""
    order = filters.shape[2]
    p = windows.unfold(2, order, 1) @ filters.flip(2)[..., None]
    return p[..., 0].clamp(-1, 1)


def _ends(predictor: Predictor, windows: Tensor, before: Tensor) -> Tensor:
    """Returns the sums (B, blocks, 3, n + 1) after each block, from windows (B, blocks, n + L) and initial sums (B, 3, n + 1)."""
    lags, steps = predictor.order + 1, windows.shape[2] - predictor.order
    if not steps:
        return before[:, None]
    age = torch.arange(steps - 1, -1, -1, dtype=windows.dtype, device=windows.device)
    left = predictor.decay ** (2 * age)
    weights = torch.stack([left, left * (age + 1), left * (age + 1) * (age + 2) / 2])
    x = windows[:, :, predictor.order :]
    added = ((weights * x[:, :, None]) @ windows.unfold(2, lags, 1)).flip(3)
    if added.shape[1] == 1:
        return after_silence(predictor, before, torch.full((len(before),), steps, device=x.device))[:, None] + added
    decay, ends = before.new_full((*added.shape[:2], lags), predictor.decay ** (2 * steps)), list[Tensor]()
    for i, own in enumerate(added.unbind(2)):  # each sum includes the decayed previous ones
        for j, factor in zip(range(i - 1, -1, -1), (steps, steps * (steps + 1) / 2), strict=False):
            earlier = torch.cat([before[:, None, j], ends[j][:, :-1]], dim=1)
            own = own + factor * decay * earlier
        ends.append(linear_scan(decay, own.contiguous(), before[:, i].contiguous())[0])
    return torch.stack(ends, dim=2)
