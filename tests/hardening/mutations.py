"""Tries many damaged inputs: python -m tests.hardening.mutations [--cases 500] [--programs 20] [--seed 0].

Recordings, checkpoints, configs, manifests and shards have flipped bits or other lengths, are cut or doubled, or contain code. Each must be
used, or refused in a line: no other error, no more than 60 s or 2 GB, nothing executed. Most are tried in one process, which a second one
watches; some by the command line. A case is a function of the seed and its number; faults are printed, and make the exit status 1.
"""

import argparse
import contextlib
import io
import os
import pickle
import re
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch

REPOSITORY = Path(__file__).parents[2]
RATE, SECONDS, MOST_BYTES = 8000, 60, 2 << 30
STARTING = 120  # seconds that a process may take to import everything
MARK = "EXECUTED"
FORMATS: dict[str, dict[str, str]] = {
    "pcm.wav": {"subtype": "PCM_16"},
    "float.wav": {"subtype": "FLOAT"},
    "gsm.wav": {"subtype": "GSM610"},
    "g721.wav": {"subtype": "G721_32"},
    "adpcm.wav": {"subtype": "MS_ADPCM"},
    "large.wav": {"format": "RF64", "subtype": "PCM_24"},
    "a.flac": {},
    "a.ogg": {},
    "a.opus": {"format": "OGG", "subtype": "OPUS"},
    "a.mp3": {},
    "a.aiff": {},
}
CONFIG = """data:
  class_path: datamodules.AudioFolder
  init_args: {root: recordings, shards: prepared, sample_rate: 8000, bits: 8, clip_samples: 400, batch_size: 2, num_workers: 0}
model:
  levels: [{width: 8, depth: 1, factor: 2}, {width: 8, depth: 1}]
trainer: {max_steps: 10, logger: {init_args: {save_dir: logs}}}
seed_everything: ${data.init_args.batch_size}
"""
SPITE = [
    f"!!python/object/apply:os.system ['touch {MARK}']",
    f"!!python/object/new:os.system ['touch {MARK}']",
    "[" * 2000,
    "{a: " * 300,
    "&a [*a, *a]",
    "${data}",
    "${oc.env:HOME}",
    "${" * 50,
    "\0",
    "1e400",
    "-9223372036854775809",
    "'",
    "\t",
    "9" * 5000,
    "~",
    ".nan",
]
BOMB = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10))


class Command:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.system, (f"touch {MARK}",)


def make_samples(folder: Path) -> None:
    """Writes valid inputs, which are damaged later, to `folder`, which becomes the working directory."""
    os.chdir(folder)
    rng = np.random.default_rng(0)
    noise = rng.uniform(-0.5, 0.5, 20_000)
    Path("recordings").mkdir()
    Path("sound").mkdir()
    for name, how in FORMATS.items():
        soundfile.write(f"sound/{name}", noise, RATE, **how)
    chain = Path("sound/a.ogg").read_bytes()
    Path("sound/chain.ogg").write_bytes(chain + chain)
    for i in range(10):
        soundfile.write(f"recordings/take{i}.wav", noise[500 * i : 500 * i + 5000], RATE)
    shutil.copytree(REPOSITORY / "tests/fixtures/run_of_version_0.1", "run")
    from datamodules import AudioFolder

    with quiet():
        AudioFolder(Path("recordings"), sample_rate=RATE, shards=Path("prepared")).prepare(processes=1)
    shutil.copytree("prepared", "whole")


def mutate(rng: np.random.Generator, content: bytes) -> bytes:
    """Returns the content with one to three changes, more often near the beginning, where headers are."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 4)):
        n = max(len(data), 1)
        at = int(rng.integers(min(n, 200) if rng.random() < 0.6 else n))
        length = int(rng.integers(1, max(2, n // 3)))
        change = rng.integers(8)
        if change == 0:
            for place in rng.integers(n, size=rng.integers(1, 9)):
                data[place : place + 1] = bytes(byte ^ 1 << int(rng.integers(8)) for byte in data[place : place + 1])
        elif change == 1:
            size = int(rng.choice([1, 2, 4, 8]))
            worst = [
                0,
                1,
                (1 << 8 * size) - 1,
                (1 << 8 * size - 1) - 1,
                1 << 8 * size - 1,
                int(rng.integers(1 << 31)) & (1 << 8 * size) - 1,
            ]
            data[at : at + size] = int(rng.choice(np.array(worst, dtype=object))).to_bytes(size, rng.choice(["little", "big"]))
        elif change == 2:
            del data[at:]
        elif change == 3:
            del data[at : at + length]
        elif change == 4:
            data[at:at] = data[at : at + length]
        elif change == 5:
            data[at:at] = rng.bytes(min(length, 5000))
        elif change == 6:
            data[at : at + length] = bytes(len(data[at : at + length]))
        else:
            data += rng.bytes(int(rng.integers(1, 3000)))
    return bytes(data)


def mutate_text(rng: np.random.Generator, content: bytes) -> bytes:
    """Mutates text as bytes, or replaces some of its words."""
    if rng.random() < 0.3:
        return mutate(rng, content)
    if rng.random() < 0.05:
        return BOMB.encode() + content
    text = content.decode()
    for _ in range(rng.integers(1, 4)):
        words = list(re.finditer(r"[\w.]+", text))
        word = words[rng.integers(len(words))]
        text = text[: word.start()] + SPITE[rng.integers(len(SPITE))] + text[word.end() :]
    return text.encode()


def sound(rng: np.random.Generator) -> tuple[str, Callable[[], object]]:
    source = rng.choice(sorted(path.name for path in Path("sound").iterdir()))
    path = Path(f"broken-{source}")
    path.write_bytes(mutate(rng, Path("sound", source).read_bytes()))

    def read() -> None:
        from harmonicrnn.audio.reading import probe, stream_mono

        probe(path)
        for piece in stream_mono(path, RATE * int(rng.integers(1, 3))):
            assert np.isfinite(piece).all()

    return str(path), read


def checkpoint(rng: np.random.Generator) -> tuple[str, Callable[[], object]]:
    path = Path("broken.ckpt")
    whole = next(Path("run").rglob("*.ckpt"))
    if rng.random() < 0.5:
        path.write_bytes(mutate(rng, whole.read_bytes()))
    else:
        held = torch.load(whole, weights_only=True)
        place, key = held, rng.choice(sorted(held))
        while isinstance(place[key], dict) and place[key] and rng.random() < 0.8:
            place = place[key]
            key = list(place)[rng.integers(len(place))]
        values = [
            None,
            -1,
            10**30,
            float("nan"),
            "",
            "x" * 10**5,
            [],
            {},
            {"a": [{}]},
            torch.zeros(0),
            torch.full((3,), torch.nan),
            Command(),
        ]
        place[key] = values[rng.integers(len(values))]
        if rng.random() < 0.1:
            path.write_bytes(pickle.dumps(held))
        else:
            torch.save(held, path)

    def read() -> None:
        from harmonicrnn import load

        load(path, scaling="none")

    return str(path), read


def config(rng: np.random.Generator) -> tuple[str, Callable[[], object]]:
    path = Path("broken.yaml")
    path.write_bytes(mutate_text(rng, CONFIG.encode()))
    return str(path), lambda: command_line("prepare", "--config", str(path), "--processes", "1")


def prepared(rng: np.random.Generator) -> tuple[str, Callable[[], object]]:
    shutil.rmtree("prepared", ignore_errors=True)
    shutil.copytree("whole", "prepared")
    paths = sorted(path for path in Path("prepared").rglob("*") if path.is_file() and path.suffix in (".jsonl", ".pcm"))
    path = next(path for path in paths if path.suffix == ".jsonl") if rng.random() < 0.6 else paths[rng.integers(len(paths))]
    path.write_bytes((mutate_text if path.suffix == ".jsonl" else mutate)(rng, path.read_bytes()))
    verify = bool(rng.random() < 0.5)

    def read() -> None:
        from datamodules import AudioFolder

        data = AudioFolder(
            Path("recordings"), sample_rate=RATE, shards=Path("prepared"), clip_samples=400, batch_size=2, num_workers=0, scaling="clip"
        )
        data.prepare(processes=1, verify=verify)
        data.setup("fit")
        next(iter(data.train_dataloader()))

    return str(path), read


KINDS = {"recordings": sound, "checkpoints": checkpoint, "configs": config, "prepared data": prepared}
SHARES = [0.5, 0.2, 0.15, 0.15]


def command_line(*arguments: str) -> None:
    """Runs the command line; raises UserError with its error line if the status is not 0."""
    from cli import main
    from harmonicrnn.errors import UserError

    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        status = main(list(arguments))
    if status:
        lines = [line for line in said.getvalue().splitlines() if line.startswith("error: ")]
        assert status == 2, f"status {status}"
        assert len(lines) == 1, said.getvalue()
        raise UserError(lines[0])


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def attempt(seed: int, number: int) -> tuple[str, str, str]:
    """Runs a case in this process and folder; returns its kind, the file, and "used", "refused" or the fault."""
    from harmonicrnn.errors import UserError

    rng = np.random.default_rng([seed, number])
    kind = str(rng.choice(list(KINDS), p=SHARES))
    path, read = KINDS[kind](rng)
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # resets the peak of memory
    began, outcome = time.monotonic(), "used"
    try:
        with quiet():
            read()
    except UserError as error:
        outcome = "refused" if str(error).strip() else "refused without a word"
    except BaseException as error:
        outcome = f"{type(error).__name__}: {error}"
    if (seconds := time.monotonic() - began) > SECONDS:
        outcome = f"took {seconds:.0f} s"
    if (peak := peak_memory()) > MOST_BYTES:
        outcome = f"took {peak / 1e9:.1f} GB"
    if Path(MARK).exists():
        Path(MARK).unlink()
        outcome = "code in it was executed"
    return kind, path, " ".join(outcome.split())[:300]


def peak_memory() -> int:
    """Returns the peak memory of this process in bytes."""
    found = re.search(r"^VmHWM:\s*(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


def attempt_as_program(seed: int, number: int) -> tuple[str, str, str]:
    """Runs a case by the command line, in a process of its own."""
    rng = np.random.default_rng([seed, 1, number])
    kind = list(KINDS)[number % len(KINDS)]
    path, _ = KINDS[kind](rng)
    program = [sys.executable, str(REPOSITORY / "train.py")]
    data = ["--data", "AudioFolder", "--data.root", "recordings", "--data.shards", "prepared", "--data.sample_rate", str(RATE)]
    arguments = {
        "recordings": [sys.executable, "-m", "harmonicrnn", "nll", "run", path],
        "checkpoints": [*program, "test", "--config", "run/config.yaml", "--ckpt_path", path, "--trainer.limit_test_batches", "1"],
        "configs": [*program, "prepare", "--config", path],
        "prepared data": [*program, "prepare", *data, "--verify", "true"],
    }[kind]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "500"}
    try:
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True, errors="replace", timeout=SECONDS + STARTING)
    except subprocess.TimeoutExpired:
        return kind, path, "was not done in time"
    outcome = {0: "used", 2: "refused"}.get(done.returncode, f"ended with status {done.returncode}: {done.stderr[-300:]}")
    if "Traceback" in done.stdout + done.stderr:
        outcome = f"a traceback: {done.stderr.strip().splitlines()[-1]}"
    if (peak := resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024) > MOST_BYTES:
        outcome = f"took {peak / 1e9:.1f} GB"
    if Path(MARK).exists():
        Path(MARK).unlink()
        outcome = "code in it was executed"
    return kind, path, " ".join(outcome.split())[:300]


def watched(seed: int, cases: int) -> Iterator[tuple[int, str, str, str]]:
    """Yields the number, kind, file and outcome of each case, from a process that is started again if it hangs or dies."""
    number = 0
    while number < cases:
        command = [sys.executable, "-m", "tests.hardening.mutations", "--seed", str(seed), "--cases", str(cases), "--from", str(number)]
        environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
        assert worker.stdout is not None
        patience = STARTING
        while number < cases:
            told = ""
            if select.select([worker.stdout], [], [], patience + SECONDS)[0]:
                told = worker.stdout.readline()
            if not told:
                hangs = worker.poll() is None
                worker.kill()
                yield number, "unknown", "", "hangs" if hangs else f"its process died: {worker.wait()}"
                number += 1
                break
            if told.startswith("CASE\t"):
                _, kind, path, outcome = told.rstrip("\n").split("\t")
                yield number, kind, path, outcome
                number, patience = number + 1, 0
        worker.wait()


def run(seed: int, cases: int, programs: int) -> int:
    """Runs all cases, prints counts and faults, and returns the number of faults."""
    counts: Counter[tuple[str, str]] = Counter()
    wrong = 0
    tried = [watched(seed, cases), ((i, *attempt_as_program(seed, i)) for i in range(programs))]
    for way, results in zip(("in a process", "by the command line"), tried, strict=True):
        for number, kind, path, outcome in results:
            counts[way, f"{kind}: {outcome if outcome in ('used', 'refused') else 'WRONG'}"] += 1
            if outcome not in ("used", "refused"):
                wrong += 1
                print(f"WRONG {way} {number} ({kind}, {path}): {outcome}", flush=True)
    for (way, what), count in sorted(counts.items()):
        print(f"{count:4} {way}, {what}")
    print(f"{wrong} of {cases + programs} went wrong")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--cases", type=int, default=500, help="tried in one process")
    parser.add_argument("--programs", type=int, default=20, help="tried by the command line")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--from", type=int, dest="first", default=None, help="be the one process, from this case on")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        make_samples(Path(folder))
        if given.first is None:
            return int(run(given.seed, given.cases, given.programs) > 0)
        for number in range(given.first, given.cases):
            print("CASE", *attempt(given.seed, number), sep="\t", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
