"""Tests of `harmonicrnn serve`, with a stand-in voice whose blocks are numbers."""

import os
import re
import signal
import socket
import sys
import threading
from types import SimpleNamespace

import pytest

from harmonicrnn.cli import library_commands, main
from harmonicrnn.live import application
from tests.harmonicrnn.live.listeners import Hum, ask, samples_of, wait_until


@pytest.fixture
def hum(monkeypatch):
    voice = Hum()
    monkeypatch.setattr(library_commands, "run_at", lambda path: SimpleNamespace(checkpoint=path))
    monkeypatch.setattr(library_commands, "load", lambda path, device: voice)
    return voice


@pytest.fixture
def address(monkeypatch):
    """Returns a list that holds the server's address once it listens."""
    found, bind = [], application.bind

    def told(port):
        found.append((sockets := bind(port))[0].getsockname())
        return sockets

    monkeypatch.setattr(application, "bind", told)
    return found


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_cleanly_while_one_listens(hum, address, capsys, signum):
    hum.pause, before, answers = 0.01, signal.getsignal(signum), []

    def listen_and_end():
        try:
            wait_until(lambda: address and hum.asked and not hum.open)  # a voice is tried before the first listener comes
            port = address[0][1]
            wait_until(lambda: ask(port, "GET", "/").status == 200)
            answers.append(ask(port, voice="hum", seconds=600))
            answers[0].read(4000)
        finally:
            os.kill(os.getpid(), signum)

    listener = threading.Thread(target=listen_and_end)
    listener.start()
    status = main(["serve", "--voice", "hum", "--port", "0"])
    listener.join()
    assert status == 0
    assert hum.open == 0
    assert len(hum.asked) == 2
    assert address[0][0] == "127.0.0.1"
    told = capsys.readouterr()
    assert told.out == f"Getting ready (the first time takes some seconds)\nListen at http://127.0.0.1:{address[0][1]}/ (Ctrl-C ends it)\n"
    assert told.err == ""
    assert signal.getsignal(signum) is before
    with pytest.raises(ConnectionRefusedError):
        ask(address[0][1], "GET", "/")
    answers[0].close()


def test_voices_are_chosen_by_what_they_are_called(hum, address):
    def listen_and_end():
        try:
            wait_until(lambda: len(hum.asked) == 2 and not hum.open)
            for name in ("a/hum", "b/hum"):
                assert len(samples_of(ask(address[0][1], voice=name))) == 8000
        finally:
            os.kill(os.getpid(), signal.SIGINT)

    listener = threading.Thread(target=listen_and_end)
    listener.start()
    assert main(["serve", "--voice", "a/hum", "b/hum", "--port", "0"]) == 0
    listener.join()
    assert len(hum.asked) == 4


def test_a_port_that_is_taken(hum, capsys):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        assert main(["serve", "--voice", "hum", "--port", str(port)]) == 2
    told = capsys.readouterr().err
    assert told == f"error: --port {port}: Address already in use: give another one, or 0 for any free port\n"
    assert hum.asked == []


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        ("--voice hum --port 65536", "--port must be from 0 (any free port) to 65535, got 65536"),
        ("--voice hum --port -1", "--port must be from 0"),
        ("--voice hum --port nan", "port"),
        ("--port 0", "voice"),
    ],
)
def test_bad_options(hum, capsys, arguments, part):
    assert main(["serve", *arguments.split()]) == 2
    assert re.fullmatch(rf"error: .*{re.escape(part)}.*\n", capsys.readouterr().err)
    assert hum.asked == []


def test_there_is_no_such_voice(capsys, tmp_path):
    assert main(["serve", "--voice", str(tmp_path / "none"), "--port", "0"]) == 2
    assert "there is no such checkpoint, run or voice" in capsys.readouterr().err


def test_without_the_library(capsys, monkeypatch):
    for name in [name for name in sys.modules if name.startswith(("tornado", "harmonicrnn.live"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "tornado", None)
    assert main(["serve", "--voice", "hum"]) == 2
    assert capsys.readouterr().err == "error: serve needs tornado: pip install .[serve] (or pip install tornado)\n"
