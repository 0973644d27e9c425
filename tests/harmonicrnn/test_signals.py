"""Tests of signal handling in the main process and in worker processes."""

import os
import signal
import sys
import threading
import time
import weakref
from multiprocessing import get_context

import pytest
from jsonargparse import ArgumentError

from harmonicrnn.cli.program import reporting
from harmonicrnn.signals import ended_by_signals, leave_signals
from tests.forking import in_child, status_of


def test_a_worker_ends_when_the_main_process_asks_and_for_nobody_else():
    """The main process waits for its workers at its end, forever if they ignore its SIGTERM."""

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


def wait_for_the_end(ready):
    leave_signals(0)
    ready.set()
    time.sleep(20)


def test_a_worker_of_a_fork_server_ends_when_the_main_process_asks():
    """Python 3.14 starts processes from a fork server."""
    context = get_context("forkserver")
    ready = context.Event()
    worker = context.Process(target=wait_for_the_end, args=(ready,))
    worker.start()
    assert ready.wait(timeout=60)
    worker.terminate()
    worker.join(timeout=5)
    assert worker.exitcode == 0


@pytest.mark.parametrize("name", ["SIGTERM", "SIGUSR1"])
def test_without_the_sender_of_signals_a_worker_ends_by_any_sigterm(name, monkeypatch):
    """macOS has no sigwaitinfo, which gives the sender of a signal."""
    monkeypatch.delattr(signal, "sigwaitinfo")

    here, there = os.pipe()

    def work():
        leave_signals(0)
        os.write(there, b"\n")
        time.sleep(1)
        return 3

    pid = in_child(work)
    os.read(here, 1)
    stranger = in_child(lambda: os.kill(pid, signal.Signals[name]))
    assert status_of(stranger) == 0
    assert status_of(pid) == {"SIGTERM": -signal.SIGTERM, "SIGUSR1": 3}[name]


@pytest.mark.parametrize(("signum", "start"), [(signal.SIGTERM, 0), (signal.SIGINT, 0), (signal.SIGINT, 0.2)])
def test_a_signal_that_arrives_where_exceptions_are_ignored_is_not_lost(signum, start, capfd, monkeypatch):
    def start_slowly(thread, started=threading.Thread.start):
        started(thread)
        time.sleep(start)

    monkeypatch.setattr(threading.Thread, "start", start_slowly)

    class Object:
        pass

    def work():
        thing = Object()
        kept = weakref.ref(thing, lambda reference: os.kill(os.getpid(), signum))
        with ended_by_signals() as received:
            try:
                del thing
                time.sleep(5)
            except KeyboardInterrupt:
                return 0 if received == [signum] else 1
        return kept() is not None or 2

    assert status_of(in_child(work)) == 0
    assert "KeyboardInterrupt" not in capfd.readouterr().err


def test_a_second_signal_while_the_first_is_kept_ends_the_program(monkeypatch):
    class Object:
        pass

    def start_and_ask_again(thread, started=threading.Thread.start):
        started(thread)
        os.kill(os.getpid(), signal.SIGTERM)

    def work():
        thing = Object()
        kept = weakref.ref(thing, lambda reference: os.kill(os.getpid(), signal.SIGTERM))
        with ended_by_signals():
            try:
                del thing
                time.sleep(5)
            except KeyboardInterrupt:
                return 0
        return kept() is not None or 2

    monkeypatch.setattr(threading.Thread, "start", start_and_ask_again)
    assert status_of(in_child(work)) == 0


def test_other_errors_that_python_ignores_are_shown(capfd):
    def work():
        class Faulty:
            def __del__(self):
                raise ValueError("a fault")

        sys.unraisablehook = sys.__unraisablehook__
        sys.stderr = os.fdopen(2, "w")
        with ended_by_signals():
            Faulty()

    assert status_of(in_child(work)) == 0
    assert "a fault" in capfd.readouterr().err


def test_a_signal_that_a_library_turns_into_an_error_of_its_own_is_reported_as_the_signal(capfd):
    def work():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5)
        except BaseException as error:
            raise ArgumentError(None, str(error)) from error
        return 3

    assert status_of(in_child(lambda: reporting(work))) == 128 + signal.SIGTERM
    assert "error" not in capfd.readouterr().err
