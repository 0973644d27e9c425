import os
import signal
import time

from harmonicrnn.signals import leave_signals
from tests.forking import in_child, status_of


def test_a_worker_ends_when_the_main_process_asks_and_for_nobody_else():
    """The main process waits for its workers at its own end, for ever if they do not take its SIGTERM."""

    def work():
        leave_signals(0)
        time.sleep(20)
        return 3

    pid = in_child(work)
    time.sleep(0.3)
    for signum in (signal.SIGINT, signal.SIGUSR1, signal.SIGTERM):
        stranger = in_child(lambda signum=signum: os.kill(pid, signum))
        assert status_of(stranger) == 0
    time.sleep(0.3)
    assert os.waitpid(pid, os.WNOHANG) == (0, 0)
    os.kill(pid, signal.SIGTERM)
    assert status_of(pid) == 0
