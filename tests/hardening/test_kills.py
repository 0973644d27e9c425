"""Runs a few of the kills of `tests.hardening.kills`, and checks that it counts faults."""

import random
from pathlib import Path

import pytest

from tests.cli.conftest import without_pictures
from tests.hardening import kills


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kills")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        without_pictures(patch)
        kills.prepare_folder(folder)
        yield folder


# 20 kills of a training take two minutes, of the others half a minute. Tests of trainings and of `prepare` already make a few kills.
MANY = {"marks": [pytest.mark.slow, pytest.mark.timeout(3000)]}


@pytest.mark.parametrize(("name", "wanted"), [("test", 2), *(pytest.param(name, 20, **MANY) for name in kills.WORKS)])
def test_what_is_killed_goes_on_to_what_it_would_have_come_to(prepared, name, wanted):
    ((_, count),) = kills.all_works([name], wanted, seed=wanted)
    print(count)
    assert count.faults == 0, count.ended
    assert count.kills.total() >= wanted
    assert count.again <= count.kills.total()  # each step writes a checkpoint


def test_it_counts_what_is_wrong(prepared, monkeypatch):
    """Faults are files written in place, which may be incomplete, and work that is not repeated."""
    work = kills.Work("", ["result"], lambda: kills.files("result"), lambda: kills.files("result"))

    def write_in_place(_):
        with Path("result").open("ab") as file:
            for _ in range(200):
                file.write(b"x" * 100)
                file.flush()
                kills.time.sleep(0.002)
        return 0

    monkeypatch.setattr(kills, "main", write_in_place)
    count = kills.kill_again_and_again(work, 4, random.Random(0))
    assert count.torn > 0
    assert count.differ > 0
