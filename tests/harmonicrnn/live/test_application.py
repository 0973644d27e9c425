"""Tests of the server's responses and refusals."""

import io
import json
import socket
from http.client import IncompleteRead
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from harmonicrnn import load
from harmonicrnn.generation import PlainEngine
from harmonicrnn.live import application
from harmonicrnn.live.application import MOST_BYTES, PROMPT_SECONDS
from tests.harmonicrnn.live.listeners import Hum, ask, on_air, samples_of, wait_until

RUN = Path(__file__).parents[2] / "fixtures/run_of_version_0.1"


@pytest.fixture
def hum():
    return Hum()


@pytest.fixture
def port(hum):
    with on_air({"hum": hum}) as port:
        yield port
    assert hum.open == 0


def refusal(answer):
    """Returns the status and message of a refusal, which must be one plain line."""
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    text = answer.read().decode()
    assert text.endswith("\n")
    assert text.count("\n") == 1
    return answer.status, text


def still_serves(port, hum):
    assert len(samples_of(ask(port))) == 8000
    assert hum.open == 0


def test_the_page_and_its_scripts_are_those_of_the_package(port):
    for path, name in (("/", "live.html"), ("/live.js", "live.js"), ("/worklets.js", "worklets.js")):
        answer = ask(port, "GET", path)
        assert answer.read() == (files("harmonicrnn.live") / name).read_bytes()
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        assert "http" not in answer.headers["Content-Security-Policy"]


def test_what_the_page_has_to_know(port):
    known = json.loads(ask(port, "GET", "/voices.json").read())
    assert known["voices"] == [{"name": "hum", "sample_rate": 8000, "temperature": 0.9}]
    assert (known["most_seconds"], known["prompt_seconds"], known["most_bytes"]) == (600, PROMPT_SECONDS, MOST_BYTES)


def test_samples_are_those_of_the_voice(monkeypatch):
    """Holds without a prompt, and after a stereo file at another rate."""
    torch.set_num_threads(1)
    monkeypatch.setattr("harmonicrnn.voice.make_engine", PlainEngine)
    voice, file = load(RUN), io.BytesIO()
    soundfile.write(file, np.random.default_rng(3).uniform(-1, 1, (800, 2)), 16_000, "FLOAT", format="WAV")
    asked = {"seed": 5, "temperature": 0.8, "top_p": 0.9}
    with on_air({"a": voice}) as port:
        plain = samples_of(ask(port, voice="a", seconds=0.02, **asked))
        continued = samples_of(ask(port, body=file.getvalue(), voice="a", seconds=0.02, **asked))
    assert np.array_equal(plain, voice.generate(0.02, **asked)[0].numpy())
    prompt, rate = soundfile.read(io.BytesIO(file.getvalue()), dtype="float32")
    assert np.array_equal(continued, voice.generate(0.02, prompt.T, rate, **asked)[0].numpy())
    assert not np.array_equal(plain, continued)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("voice", "strange", "there is no voice 'strange'"),
        ("seconds", "nan", "seconds must be above 0 and at most 600, got nan"),
        ("seconds", "0", "seconds must be above 0"),
        ("seconds", "600.1", "seconds must be above 0 and at most 600, got 600.1"),
        ("seconds", "1e999", "seconds must be above 0 and at most 600, got inf"),
        ("seconds", "", "seconds must be a number, got ''"),
        ("temperature", "nan", "temperature must be 0 or more, got nan"),
        ("temperature", "-0.1", "temperature must be 0 or more, got -0.1"),
        ("temperature", "inf", "temperature must be 0 or more, got inf"),
        ("temperature", "warm", "temperature must be a number, got 'warm'"),
        ("top_p", "0", "top_p must be above 0 and at most 1, got 0.0"),
        ("top_p", "1.01", "top_p must be above 0 and at most 1, got 1.01"),
        ("top_p", "nan", "top_p must be above 0 and at most 1, got nan"),
        ("seed", "-1", "seed must be 0 or more, got -1"),
        ("seed", "1.5", "seed must be a whole number, got '1.5'"),
        ("seed", "9" * 5000, "seed must be a whole number, got '999"),
    ],
)
def test_bad_numbers_are_refused(hum, name, value, told):
    with on_air({"hum": hum}) as port:
        status, text = refusal(ask(port, **{name: value}))
        assert status == 400
        assert text.startswith(told)
        assert len(text) < 200
        assert hum.asked == []
        still_serves(port, hum)


def test_a_seed_of_any_size_is_taken_as_it_is(port, hum):
    samples_of(ask(port, seed=10**30, temperature=0))
    assert (hum.asked[0]["seed"], hum.asked[0]["temperature"]) == (10**30, 0)


def test_a_second_listener_is_told_to_wait(hum, port):
    hum.pause = 0.01
    first = ask(port, seconds=600)
    assert len(first.read(4000)) == 4000
    second = ask(port)
    assert second.headers["Retry-After"] == "5"
    assert refusal(second) == (503, "Someone else is listening: wait until they are done, and play again.\n")
    assert len(hum.asked) == 1
    first.close()
    wait_until(lambda: hum.open == 0)
    hum.pause = 0
    still_serves(port, hum)


def test_a_listener_that_vanishes_frees_the_machine(hum, port):
    hum.pause = 0.01
    answer = ask(port, seconds=600)
    answer.read(4000)
    answer.close()
    wait_until(lambda: hum.open == 0)
    drawn = hum.drawn
    assert drawn < 600 * 8000 // 400
    hum.pause = 0
    still_serves(port, hum)
    assert hum.drawn == drawn + 20


def test_a_listener_that_takes_nothing_is_left(hum, port, monkeypatch):
    monkeypatch.setattr(application, "STALLED", 0.2)
    hum.block = 80_000
    answer = ask(port, seconds=600)  # 19 MB, more than the buffers hold
    wait_until(lambda: hum.drawn and not hum.open)
    assert hum.drawn < 60
    answer.close()
    hum.block = 400
    still_serves(port, hum)


def test_an_upload_that_is_broken_off(hum, port):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        head = "POST /stream?voice=hum&seconds=1&seed=0&temperature=1&top_p=1 HTTP/1.1\r\n"
        connection.sendall(f"{head}Host: 127.0.0.1\r\nContent-Length: 1000\r\n\r\nRIFF".encode())
    still_serves(port, hum)
    assert len(hum.asked) == 1


@pytest.mark.parametrize(
    ("header", "status", "told"),
    [
        (f"Content-Length: {MOST_BYTES + 1}", 413, "The prompt's file is too large: at most 32 MiB are taken."),
        (f"Content-Length: {'9' * 5000}", 413, "The prompt's file is too large"),
        ("Transfer-Encoding: chunked", 411, "Say how long the prompt is"),
    ],
)
def test_uploads_are_refused_before_they_are_read(hum, port, header, status, told):
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(f"POST /stream HTTP/1.1\r\nHost: 127.0.0.1\r\n{header}\r\n\r\n".encode())
        answer = b""
        while part := connection.recv(4096):  # to the end, when the connection is closed
            answer += part
    assert answer.startswith(f"HTTP/1.1 {status} ".encode())
    assert told.encode() in answer
    still_serves(port, hum)


@pytest.mark.parametrize("path", ["/", "/live.js", "/voices.json", None, "/none"])
@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "evil.example:8000"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": ""},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Origin": "http://localhost.evil.example"},
    ],
    ids=lambda headers: "".join(f"{name}={value}" for name, value in headers.items()),
)
def test_other_pages_and_host_names_are_refused(hum, port, path, headers):
    status, text = refusal(ask(port, "POST" if path is None else "GET", path, headers=headers))
    assert status == 403
    assert text.startswith("This is only for ")
    assert hum.asked == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "localhost:9000"])
def test_its_own_page_is_answered(port, host):
    """Tries its own port, and another one that is forwarded to it."""
    host = host if ":" in host else f"{host}:{port}"
    assert len(samples_of(ask(port, headers={"Host": host, "Origin": f"http://{host}"}))) == 8000


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/none", 404),
        ("POST", "/none", 404),
        ("GET", "/../application.py", 404),
        ("GET", "/application.py", 404),
        ("GET", "/stream", 405),
        ("POST", "/", 405),
        ("DELETE", "/voices.json", 405),
    ],
)
def test_what_is_not_there(hum, port, method, path, status):
    assert refusal(ask(port, method, path))[0] == status
    still_serves(port, hum)


def test_a_model_that_fails_at_once_says_why(hum, port):
    hum.breaks = 0
    assert refusal(ask(port)) == (400, "the model's logits are not finite\n")
    hum.breaks = None
    still_serves(port, hum)


def test_a_model_that_fails_later_ends_the_answer_as_broken(hum, port, capfd):
    hum.breaks = 3
    with pytest.raises(IncompleteRead):
        samples_of(ask(port))
    assert capfd.readouterr().err == "error: the model's logits are not finite\n"
    hum.breaks = None
    still_serves(port, hum)


def test_a_prompt_that_is_no_audio(hum, port):
    status, text = refusal(ask(port, body=b"no audio"))
    assert status == 400
    assert text.startswith("the prompt: ")
    assert "/tmp" not in text
    assert hum.asked == []
    still_serves(port, hum)


def test_of_a_long_prompt_the_beginning_is_heard(hum, port):
    file, samples = io.BytesIO(), np.linspace(-1, 1, 8000 * 40)
    soundfile.write(file, samples, 8000, "FLOAT", format="WAV")
    samples_of(ask(port, body=file.getvalue()))
    assert np.array_equal(hum.asked[0]["prompt"], samples[: 30 * 8000].astype(np.float32))
