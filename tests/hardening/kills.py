"""Kills work at random moments, repeatedly, and compares the results with those of uninterrupted work.

    python -m tests.hardening.kills --kills 100 --work fit prepare test generate ranks

After each kill (SIGKILL and SIGTERM in turn) the same command is started again. Counted are the samples of a training that were lost, or
differ from the uninterrupted run; incomplete files under their final names; and results that differ: weights, shards, likelihoods and
clips. All counts must be 0.
"""

import argparse
import hashlib
import importlib
import itertools
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import textwrap
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
import yaml
from lightning.pytorch.utilities import rank_zero_only

from cli import main
from harmonicrnn.checkpoints import read_checkpoint
from harmonicrnn.runs import find_run
from tests.audio_files import make_folder, make_sc09
from tests.cli.conftest import CONFIG
from tests.forking import in_child, status_of

STEPS = 15
# A checkpoint after every step, so that many kills hit the writing of one.
FIT = f"fit --config tiny.yaml --trainer.max_steps {STEPS} --trainer.val_check_interval 6 --checkpoint.minutes 1e-9 --ema.decay 0.9"
FIT += " --samples.sample_seconds 0 --trainer.callbacks+=tests.cli.run_callbacks.Record --ckpt_path last"
RANKS = f" --trainer.max_steps {STEPS // 2} --trainer.strategy ddp --trainer.accelerator cpu --trainer.devices 2"
RUN = Path("logs/tiny/version_0")
LIMIT = 120  # seconds until a start must have ended
PATIENCE = 5  # seconds that the other ranks may take to end after one has failed

Found = dict[str, str]
"""Digests of files or values, by name."""


@dataclass
class Work:
    """A command that is killed.

    command: the command line, the same at each start.
    made: the files it leaves, which are removed before it starts anew.
    result: returns the digests of the finished work.
    whole: returns the digests of all files that must be complete at any time.
    ranks: number of processes.
    stops: allowed exit statuses, beside 143, of a start that was asked to stop.
    """

    command: str
    made: list[str]
    result: Callable[[], Found]
    whole: Callable[[], Found]
    ranks: int = 1
    stops: set[int] = field(default_factory=set)


@dataclass
class Count:
    """Counts the outcomes of the kills of one kind of work."""

    kills: Counter[str] = field(default_factory=Counter)
    finished: int = 0
    again: int = 0
    lost: int = 0
    torn: int = 0
    differ: int = 0
    ended: list[str] = field(default_factory=list)

    @property
    def faults(self) -> int:
        """Number of faults of all kinds."""
        return self.lost + self.torn + self.differ + len(self.ended)

    def __str__(self) -> str:
        killed = ", ".join(f"{number} {name}" for name, number in sorted(self.kills.items()))
        return (
            f"{self.kills.total()} kills ({killed}), {self.finished} times to the end, {self.again} steps made again; samples lost or other"
            f" {self.lost}, torn files taken for whole {self.torn}, results that differ {self.differ}, wrong ends {len(self.ended)}"
        )


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def files(*patterns: str) -> Found:
    """Returns the digests of the files in the working folder that match the patterns."""
    return {str(path): digest(path.read_bytes()) for pattern in patterns for path in sorted(Path().glob(pattern)) if path.is_file()}


def rows() -> list[str]:
    """Returns the recorded steps of all ranks, in order."""
    return [f"{path.name} {line}" for path in sorted(Path().glob("record_*.jsonl")) for line in path.read_text().splitlines() if line]


def weights() -> Found:
    checkpoint = read_checkpoint(find_run("last", Path("logs")).checkpoint)
    return {
        f"{part} {name}": digest(value.contiguous().view(-1).numpy().tobytes())
        for part in ("state_dict", "current_model_state")
        for name, value in checkpoint[part].items()
    }


def of_a_run() -> Found:
    """Returns the names in each checkpoint and config of a run; raises if one is torn."""
    found = {path.name: str(sorted(read_checkpoint(path))) for path in sorted(Path("logs").rglob("*.ckpt"))}
    return found | {path.name: str(sorted(yaml.safe_load(path.read_text()))) for path in sorted(Path("logs").rglob("config.yaml"))}


def clips() -> Found:
    """Returns the digests of the clips that the manifest lists; a manifest that says it is complete must list all."""
    with suppress(FileNotFoundError):
        manifest = json.loads(Path("clips/manifest.json").read_text())
        listed = [row[key] for row in manifest["clips"] for key in ("file", "classes")]
        assert not manifest["complete"] or len(listed) == 2 * manifest["settings"]["clips"]
        return files(*(f"clips/{name}" for name in listed))
    return {}


WORKS = {
    "fit": Work(FIT, ["logs", "record_0.jsonl"], weights, of_a_run, stops={75}),
    "prepare": Work(
        "prepare --data AudioFolder --data.root many --processes 2", ["many/shards_16000"], *[partial(files, "many/**/*.pcm")] * 2
    ),
    "test": Work("test", [f"{RUN}/nll_test.json"], *[partial(files, f"{RUN}/nll_test.json")] * 2),
    "generate": Work("generate --seconds 0.1 --clips 6 --batch 2 --seed 3 --out clips --overwrite", ["clips"], clips, clips),
    # 2 is the status of a rank that reports the end of the other.
    "ranks": Work(FIT + RANKS, ["logs", "record_0.jsonl", "record_1.jsonl"], weights, of_a_run, ranks=2, stops={75, 2}),
}


def start(work: Work, output: Path) -> list[int]:
    """Starts a work and returns its process ids; two ranks are started as by torchrun."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def as_rank(rank: int) -> int:
        if work.ranks > 1:
            place = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": work.ranks, "LOCAL_WORLD_SIZE": work.ranks}
            place |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "TORCHELASTIC_RUN_ID": "kills"}
            os.environ.update({key: str(value) for key, value in place.items()})
            rank_zero_only.rank = rank  # Lightning reads it from the environment at import
        return main(work.command.split())

    return [in_child(partial(as_rank, rank), output) for rank in range(work.ranks)]


def runs(pid: int) -> bool:
    """Returns True while a child has not ended, without reaping it."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def ends(processes: list[int]) -> list[int]:
    """Waits for processes and returns their exit statuses. After a failure the remaining ranks are killed, as by torchrun, and not counted;
    after `LIMIT` seconds whatever remains is killed and counted."""
    began, left, found, failed = time.monotonic(), list(processes), [], None
    while left:
        for pid in list(left):
            if not runs(pid):
                found.append(status_of(pid))
                failed = failed or (time.monotonic() if found[-1] else None)
                left.remove(pid)
        abandoned = failed is not None and time.monotonic() > failed + PATIENCE
        if abandoned or time.monotonic() > began + LIMIT:
            for pid in left:
                os.killpg(pid, signal.SIGKILL)
                status = status_of(pid)
                found += [] if abandoned else [status]
            break
        time.sleep(0.005)
    return found


def undisturbed(work: Work) -> tuple[Found, Found, list[str], float]:
    """Runs a work without kills; returns its result, complete files, recorded steps and seconds."""
    remove(work)
    started = time.monotonic()
    assert ends(start(work, Path("output.txt"))) == [0] * work.ranks, Path("output.txt").read_text()
    return work.result(), work.whole(), rows(), time.monotonic() - started


def remove(work: Work) -> None:
    for name in ("output.txt", *work.made):
        shutil.rmtree(name, ignore_errors=True)
        with suppress(OSError):
            Path(name).unlink()


def kill_again_and_again(work: Work, wanted: int, rng: random.Random) -> Count:
    """Kills the work `wanted` times, lets it finish in between, and counts the faults."""
    result, whole, made, seconds = undisturbed(work)
    count, signals = Count(), itertools.cycle([signal.SIGKILL, signal.SIGTERM])
    remove(work)
    begun = False
    while count.kills.total() < wanted or begun:
        output = Path("output.txt")
        output.unlink(missing_ok=True)
        processes, signum = start(work, output), next(signals)
        let_end = begun and (count.kills.total() >= wanted or rng.random() < 0.1)
        if not let_end:
            began, wait = time.monotonic(), rng.uniform(0, seconds)
            while any(map(runs, processes)) and time.monotonic() < began + wait:
                time.sleep(0.005)
            if not any(map(runs, processes)):
                seconds = min(seconds, time.monotonic() - began)  # the first run may have been slower, next to other work
            # All processes at once, as terminals and clusters do, or one alone; with its group or without.
            struck = processes if work.ranks == 1 or signum == signal.SIGKILL or rng.random() < 0.5 else [rng.choice(processes)]
            for pid in struck:
                with suppress(ProcessLookupError):
                    rng.choice([os.kill, os.killpg])(pid, signum)
        statuses, begun = ends(processes), True
        allowed = {0} | ({-signum} if signum == signal.SIGKILL else {128 + signum, -signum} | work.stops)
        told = output.read_text() if output.exists() else ""
        if not set(statuses) <= ({0} if let_end else allowed) or (
            # A rank whose neighbour is gone reports a lost connection.
            work.ranks == 1 and signum != signal.SIGKILL and "Traceback" in told
        ):
            count.ended.append(f"{signum.name} {statuses}: {told[-2000:]}")
        try:
            there = work.whole()
            count.torn += sum(whole.get(name) != content for name, content in there.items())
        except Exception as error:  # whatever a torn file makes its reader raise
            count.torn += 1
            print(f"torn: {error!r}", file=sys.stderr)
        if any(statuses):
            count.kills[signum.name] += 1
        else:
            count.finished += 1
            count.lost += len(set(made) ^ set(rows()))
            count.again += len(rows()) - len(made)
            count.differ += work.result() != result
            remove(work)
            begun = False
        print(f"so far {count}", file=sys.stderr, flush=True)
    return count


def prepare_folder(folder: Path) -> None:
    """Enters a folder and prepares the data and runs that the works need."""
    os.chdir(folder)
    make_sc09(folder / "data")
    make_folder(folder / "many", 60, 40_000, 48_000)
    (folder / "tiny.yaml").write_text(textwrap.dedent(CONFIG.format(root=folder / "data")))
    torch.set_num_threads(1)
    # In this process, so that its children inherit all imports and compiled code.
    for command in ("evaluate", "generate", "prepare"):
        importlib.import_module(f"cli.{command}_command")
    assert main(["fit", "--config", "tiny.yaml"]) == 0
    shutil.move("logs", "a run")


def all_works(names: list[str], kills: int, seed: int) -> Iterator[tuple[str, Count]]:
    """Kills each of these works in the current folder, which `prepare_folder` has made."""
    for name in names:
        shutil.rmtree("logs", ignore_errors=True)
        if name in ("test", "generate"):
            shutil.copytree("a run", "logs")
        yield name, kill_again_and_again(WORKS[name], kills, random.Random(f"{seed} {name}"))


def run() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("--kills", type=int, default=20, help="of each work")
    parser.add_argument("--work", nargs="+", choices=WORKS, default=list(WORKS))
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        prepare_folder(Path(folder))
        for name, count in all_works(options.work, options.kills, options.seed):
            print(f"{name}: {count}", flush=True)
            print(*count.ended, sep="\n", end="\n" if count.ended else "", flush=True)
            faults += count.faults
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(run())
