"""Runs a few of the damaged inputs; `python -m tests.hardening.mutations` tries hundreds."""

import os
import time
from pathlib import Path

import pytest
import torch

from harmonicrnn.errors import UserError
from tests.hardening import mutations


@pytest.fixture
def samples(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.set_num_threads(1)
    mutations.make_samples(tmp_path)


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_broken_inputs_are_used_or_refused(samples, first):
    outcomes = {number: mutations.attempt(1, number) for number in range(first, first + 20)}
    assert {number: outcome for number, outcome in outcomes.items() if outcome[-1] not in ("used", "refused")} == {}
    assert len({outcome[-1] for outcome in outcomes.values()}) == 2


def other_error():
    raise TypeError("not for users")


def told():
    raise UserError("file: is bad")


@pytest.mark.parametrize(
    ("read", "outcome"),
    [
        (lambda: None, "used"),
        (told, "refused"),
        (other_error, "TypeError: not for users"),
        (lambda: os.system(f"touch {mutations.MARK}"), "code in it was executed"),
        (lambda: time.sleep(0.3), "took 0 s"),
        (lambda: b"x" * (300 << 20), "took "),
    ],
    ids=["used", "refused", "error", "executed", "slow", "large"],
)
def test_what_goes_wrong_is_seen(samples, monkeypatch, read, outcome):
    if outcome == "took 0 s":
        monkeypatch.setattr(mutations, "SECONDS", 0.1)
    if outcome == "took ":
        Path("/proc/self/clear_refs").write_text("5")
        monkeypatch.setattr(mutations, "MOST_BYTES", mutations.peak_memory() + (100 << 20))
    monkeypatch.setattr(mutations, "KINDS", {"kind": lambda rng: ("path", read)})
    monkeypatch.setattr(mutations, "SHARES", [1.0])
    assert mutations.attempt(0, 0)[-1].startswith(outcome)
    assert not Path(mutations.MARK).exists()


@pytest.mark.slow
def test_hundreds_of_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mutations.make_samples(tmp_path)
    assert mutations.run(seed=0, cases=500, programs=20) == 0
