import os
import signal

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from cli import main, prepare_command
from cli.out_of_memory import shortage


class Killed(Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, index):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("fail", "told"),
    [
        (lambda: torch.empty(10**15), "memory ran out"),
        (lambda: list(DataLoader(Killed(), num_workers=1)), "a process that reads the data was killed"),
    ],
    ids=["memory", "worker"],
)
def test_what_torch_says_is_understood(monkeypatch, capsys, fail, told):
    monkeypatch.setattr(prepare_command, "prepare", lambda *_: fail())
    assert main(["prepare"]) == 2
    assert capsys.readouterr().err.startswith(f"error: {told}")


def test_other_errors_are_left_alone(monkeypatch):
    assert shortage(RuntimeError("shapes do not match")) is None
    monkeypatch.setattr(prepare_command, "prepare", lambda *_: torch.zeros(2) @ torch.zeros(3))
    with pytest.raises(RuntimeError, match="size"):
        main(["prepare"])
