"""Tests of the orders of training and evaluation pieces: clips, random crops and sequential lanes."""

import itertools
import time

import numpy as np
import pytest
from scipy import stats

from datamodules.orders import RESTING, Clips, Crops, Piece, Sequential, clip_table

LENGTHS = [1000, 130, 480, 30, 300, 720, 50]
T = 100


def orders():
    table = clip_table(LENGTHS, T, keep_tails=True)
    return {
        "clips": Clips(table, 4, 3, shuffle=True),
        "crops": Crops(LENGTHS, T, len(table), 4, 3, keep_short=True),
        "sequential": Sequential(LENGTHS, T, 4, 3, repeat=True),
    }


@pytest.mark.parametrize("name", orders())
def test_epochs_are_functions_of_the_seed_and_their_number(name):
    order = orders()[name]
    first, again, second = (list(order.batches(epoch)) for epoch in (0, 0, 1))
    assert first == again
    assert first != second
    assert len(first) == len(second) == len(order) > 3
    assert all(len(batch) == 4 for batch in first)
    for piece in itertools.chain.from_iterable(first):
        assert 0 <= piece.start < piece.stop <= LENGTHS[piece.recording]
        assert piece.stop - piece.start <= T


def test_crops_are_even_over_all_positions():
    order = Crops([400, 250, 90], 100, 4000, 1, 0, keep_short=False)
    pieces = [batch[0] for batch in order.batches(0)]
    assert all(piece.stop - piece.start == 100 for piece in pieces)
    places = np.bincount([piece.start + (301 if piece.recording else 0) for piece in pieces], minlength=301 + 151)
    assert stats.chisquare(places).pvalue > 1e-3
    assert len(places) == 452


def walks(batches):
    """Returns the pieces of each lane."""
    return list(zip(*batches, strict=True))


def test_sequential_lanes_walk_through_whole_recordings():
    order = orders()["sequential"]
    for lane in walks(itertools.chain(*(order.batches(epoch) for epoch in range(6)))):
        for before, piece in itertools.pairwise(lane):
            assert piece.context == piece.start
            if before.stop < LENGTHS[before.recording]:
                assert (piece.recording, piece.start) == (before.recording, before.stop)
            else:
                assert piece.start == 0


def test_each_turn_of_the_sequential_order_takes_every_recording_once():
    order = Sequential(LENGTHS, T, 1, 3, repeat=True)
    begun = [batch[0].recording for epoch in range(3) for batch in order.batches(epoch) if batch[0].start == 0]
    for turn in range(3):
        assert sorted(begun[7 * turn : 7 * turn + 7]) == list(range(7))


def walked(order, recordings):
    """Returns the batches of a sequential order, chunk by chunk."""
    lanes = [None] * order.batch_size
    while True:
        lanes = [lane or ((following, 0) if (following := next(recordings, None)) is not None else None) for lane in lanes]
        if not any(lanes):
            return
        yield [RESTING[:2] if lane is None else lane for lane in lanes]
        after = [lane and (lane[0], lane[1] + order.clip_samples) for lane in lanes]
        lanes = [lane if lane and lane[1] < order.lengths[lane[0]] else None for lane in after]


@pytest.mark.parametrize("lanes", [1, 4, 10, 25])
def test_a_sequential_epoch_begins_where_a_walk_through_all_before_it_ends(lanes):
    order = Sequential(LENGTHS, T, lanes, 3, repeat=True)
    turns = (np.random.default_rng([3, turn]).permutation(len(LENGTHS)).tolist() for turn in itertools.count())
    walk = walked(order, itertools.chain.from_iterable(turns))
    for epoch in range(12):
        expected = list(itertools.islice(walk, len(order)))
        assert [[(piece.recording, piece.start) for piece in batch] for batch in order.batches(epoch)] == expected
    whole = Sequential(LENGTHS, T, lanes, 3, repeat=False)
    expected = list(walked(whole, iter(range(len(LENGTHS)))))
    assert [[(piece.recording, piece.start) for piece in batch] for batch in whole.batches(0)] == expected


def test_a_late_epoch_of_many_hours_begins_at_once():
    """Checks 200 h in 1,276 recordings; iterating over the chunks of 60 epochs would take minutes."""
    order = Sequential([9_028_213] * 1276, 1 << 17, 4, 0, repeat=True)
    before = time.process_time()
    next(order.batches(60))
    assert time.process_time() - before < 2


@pytest.mark.parametrize("lanes", [1, 3, 10])
def test_whole_files_are_evaluated_once(lanes):
    order = Sequential(LENGTHS, T, lanes, 0, repeat=False)
    batches = list(order.batches(0))
    assert len(batches) == len(order)
    pieces = [piece for batch in batches for piece in batch if piece is not RESTING]
    assert sorted(pieces) == sorted(piece._replace(context=piece.start) for piece in clip_table(LENGTHS, T, keep_tails=True))


def test_clip_table():
    kept = [(0, 0, 4), (0, 4, 8), (0, 8, 10), (1, 0, 3), (2, 0, 4)]
    assert clip_table([10, 3, 4], 4, keep_tails=True) == [Piece(*place, i) for i, place in enumerate(kept)]
    dropped = [(0, 0, 4), (0, 4, 8), (2, 0, 4)]
    assert clip_table([10, 3, 4], 4, keep_tails=False) == [Piece(*place, i) for i, place in enumerate(dropped)]
