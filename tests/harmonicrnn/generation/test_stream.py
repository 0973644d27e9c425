"""Tests of streamed audio: the same samples as `generate`, and an end that leaves nothing behind."""

import gc
import threading
import time
from itertools import islice

import numpy as np
import pytest
import torch

from harmonicrnn.errors import UserError
from harmonicrnn.generation import PlainEngine
from harmonicrnn.generation.cpu import CPUEngine
from tests.audio_files import tone
from tests.harmonicrnn.test_voice_folder import make_voice


@pytest.fixture
def voice():
    """Returns a voice at 8 kHz with weights large enough that its past matters."""
    voice = make_voice()
    for parameter in voice.net.parameters():
        parameter.data *= 5
    return voice


DRAWN = {"seed": 2**40 + 5, "temperature": 0.9, "top_p": 0.9}


@pytest.mark.parametrize(("chunk", "blocks"), [(0.01, [80] * 9 + [16]), (0.05, [400, 336]), (0.2, [736])])
def test_it_is_what_generate_makes(voice, chunk, blocks):
    prompt = tone(300, 1, 8000).astype(np.float32)
    stream = list(voice.stream(prompt, chunk=chunk, seconds=0.092, **DRAWN))
    assert [len(block) for block in stream] == blocks
    assert {block.dtype for block in stream} == {np.dtype(np.float32)}
    made = voice.generate(0.092, prompt, **DRAWN)[0].numpy()
    assert np.array_equal(np.concatenate(stream), made)
    endless = voice.stream(prompt, chunk=chunk, **DRAWN)
    assert np.array_equal(np.concatenate(list(islice(endless, len(blocks))))[:736], made)
    assert not np.array_equal(np.concatenate(list(voice.stream(chunk=chunk, seconds=0.092, **DRAWN))), made)


def test_it_is_what_any_engine_makes(voice, monkeypatch):
    monkeypatch.setattr("harmonicrnn.voice.make_engine", PlainEngine)
    made = voice.generate(0.005, seed=3)[0].numpy()
    assert np.array_equal(np.concatenate(list(voice.stream(seconds=0.005, chunk=0.002, seed=3))), made)


def test_prompts_at_other_rates(voice):
    prompt = tone(600, 1, 16_000)
    (block,) = voice.stream(prompt, 16_000, seconds=0.01)
    assert np.array_equal(block, voice.generate(0.01, prompt, 16_000)[0].numpy())


def test_it_ends_where_it_is_closed(voice):
    with voice.stream(chunk=0.001) as stream:
        assert len(next(stream)) == 8
    assert list(stream) == []
    stream.close()
    finished = voice.stream(seconds=0.001)
    assert [len(block) for block in finished] == [8]
    assert list(finished) == []


def test_no_thread_is_left(monkeypatch):
    monkeypatch.setattr("harmonicrnn.voice.make_engine", lambda net: CPUEngine(net, threads=2))
    voice, before = make_voice(), threading.active_count()
    gc.disable()  # freed without the garbage collector
    try:
        stream = voice.stream(chunk=0.01)
        next(stream)
        assert threading.active_count() > before
        stream.close()
        end = time.monotonic() + 20
        while threading.active_count() > before and time.monotonic() < end:
            time.sleep(0.01)
        assert threading.active_count() == before
    finally:
        gc.enable()


def test_another_thread_closes_it_while_a_block_is_drawn(monkeypatch):
    drawing, go_on = threading.Event(), threading.Event()

    class Slow(PlainEngine):
        def draw(self, *arguments):
            drawing.set()
            assert go_on.wait(20)
            return super().draw(*arguments)

    monkeypatch.setattr("harmonicrnn.voice.make_engine", Slow)
    stream, heard = make_voice().stream(chunk=0.001), []
    listener = threading.Thread(target=lambda: heard.extend(stream))
    listener.start()
    assert drawing.wait(20)
    closer = threading.Thread(target=stream.close)
    closer.start()
    while not stream._closed:
        time.sleep(0.001)
    go_on.set()
    closer.join(20)
    listener.join(20)
    assert not closer.is_alive()
    assert not listener.is_alive()
    assert [len(block) for block in heard] == [8]


def test_streams_of_one_voice_together(voice):
    """Threads make and draw from them at the same time."""
    alone = [np.concatenate(list(voice.stream(seconds=0.02, chunk=0.005, seed=seed))) for seed in range(3)]
    together = {}

    def listen(seed):
        together[seed] = np.concatenate(list(voice.stream(seconds=0.02, chunk=0.005, seed=seed)))

    threads = [threading.Thread(target=listen, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(together[seed], alone[seed]) for seed in range(3))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"chunk": 0}, "chunk must be above 0 and finite, got 0"),
        ({"chunk": float("nan")}, "chunk must be above 0 and finite"),
        ({"chunk": 1e-5}, "less than one sample at 8000 Hz"),
        ({"seconds": -1}, "seconds must be above 0"),
        ({"seed": -1}, "seed must be 0 or more"),
        ({"top_p": 0}, "top_p must be above 0"),
        ({"prompt": np.zeros(9, np.int16)}, "holds int16 numbers"),
    ],
)
def test_numbers_out_of_range_are_told_at_once(changes, message):
    with pytest.raises(UserError, match=message):
        make_voice().stream(**changes)


def test_logits_that_are_not_finite(monkeypatch):
    monkeypatch.setattr("harmonicrnn.voice.make_engine", PlainEngine)
    voice = make_voice()
    voice.net.head.bias.data.fill_(torch.nan)
    with pytest.raises(UserError, match="sample 0 of clip 0: the model's logits are not finite"):
        next(voice.stream(chunk=0.001))
