"""Tests of a full disk, at each place that writes."""

import pytest

from tests.cli.conftest import without_pictures
from tests.hardening import full_disk
from tests.hardening.kills import prepare_folder


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("full")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        without_pictures(patch)
        prepare_folder(folder)
        yield folder


MANY = {"marks": [pytest.mark.slow, pytest.mark.timeout(3000)]}  # a minute each for most, a few for training


@pytest.mark.parametrize(
    ("name", "sizes"),
    [*((name, 2) for name in ("prepare", "test", "generate")), *(pytest.param(name, 10, **MANY) for name in full_disk.ALL)],
)
def test_a_full_disk_is_told_of_and_leaves_nothing_half_written(prepared, name, sizes):
    found = list(full_disk.fill_all([name], sizes))
    assert [wrong for *_, wrong in found] == [[]] * sizes, found
