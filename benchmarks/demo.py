"""The demo of `make demo`: generates a clip from the voice that comes with the library, then trains a small model on the piano melodies in
`demo/`, tests it, generates clips, and measures them like `benchmarks.free_runs`, with less strict marks.

    python -m benchmarks.demo

The last three lines tell what was done, how good the result is, and what to do next.
"""

import json
import os
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from harmonicrnn.cli import main as library
from harmonicrnn.files import pasteable
from harmonicrnn.runs import VOICES, WEIGHTS, find_run

ROOT = Path(__file__).parents[1]
CONFIG, RECORDINGS, LOGS = Path("configs/melody_demo.yaml"), Path("demo"), Path("logs/demo")
CLIPS, SECONDS = 3, 5.0  # drawn from the new model
LEVEL, FLATNESS, WHISTLE = 20, 10, 2  # marks: dB, dB, seconds
PREDICTORS = "linear predictors"


def demo(config: Path = CONFIG, recordings: Path = RECORDINGS, logs: Path = LOGS, voices: Path = VOICES, seconds: float = SECONDS) -> int:
    """Runs the demo and returns the exit status of the first command that fails, or 0.

    Args:
        config: Config of the training.
        recordings: Folder of the training recordings, with `test/`.
        logs: Folder of the runs and of the voice's clip.
        voices: Folder of the library's voices.
        seconds: Length of each clip.
    """
    started = time.perf_counter()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded, as in train.py
    if status := hear(voices, logs, seconds):
        return status
    from cli import main as experiment  # not needed by the voice

    drawn = ["--clips", str(CLIPS), "--seconds", str(seconds), "--top_p", "0.99", "--prompt", "test"]
    for command, options in (("fit", []), ("test", []), ("generate", drawn)):
        if status := said("python train.py", experiment, [command, "--config", str(config), *options]):
            return status
    run = find_run(None, logs).folder
    clips = max(run.glob("generated_*"), key=lambda folder: folder.stat().st_mtime)
    print("\n".join(["", *judged(run, clips, recordings), "", *closing(run, clips, recordings, time.perf_counter() - started)]))
    return 0


def hear(voices: Path, logs: Path, seconds: float) -> int:
    """Generates a clip from the first voice into a folder beside the runs, if there is a voice; returns the exit status."""
    names = sorted(path.parent.name for path in voices.glob(f"*/{WEIGHTS}"))
    if not names:
        print("No voice comes with the library: none is heard")
        return 0
    out = logs / names[0]
    options = ["--voice", str(names[0] if voices == VOICES else voices / names[0]), "--seconds", str(seconds)]
    if not (status := said("python -m harmonicrnn", library, ["generate", *options, "--out", str(out), "--overwrite"])):
        print(f"Listen to the voice {names[0]}: {pasteable(out / 'clip_0000.wav')}", flush=True)
    return status


def said(program: str, main: Callable[[Sequence[str]], int], args: Sequence[str]) -> int:
    """Prints a command as it could be typed, runs it and returns its exit status."""
    print(f"\n$ {program} {shlex.join(args)}", flush=True)
    return main(args)


def judged(run: Path, clips: Path, recordings: Path) -> list[str]:
    """Returns a line with the marks, and one with the verdict on each clip of `generate`, compared with excerpts of the test split."""
    import soundfile

    from benchmarks import free_runs
    from harmonicrnn import load
    from harmonicrnn.audio.folders import find_recordings

    voice, made = load(run), json.loads((clips / "manifest.json").read_text())["clips"]
    heard = [voice.classes(path) for path in find_recordings(recordings / "test")]
    excerpts = free_runs.excerpts(heard, made[0]["samples"], CLIPS)
    sounds = zip(voice.quantiser.decode_centre(excerpts).numpy(), free_runs.bits_of(voice, excerpts), strict=True)
    usual = free_runs.usual_of([free_runs.measured(sound, voice.sample_rate, bits) for sound, bits in sounds])
    lines = [f"Marks: level within {LEVEL} dB of the test split's, flatness within {FLATNESS} dB, no whistle of {WHISTLE} s"]
    for clip in sorted(made, key=lambda clip: clip["file"]):
        samples, rate = soundfile.read(clips / clip["file"], dtype="float32")
        row = free_runs.measured(samples, rate, clip["bits_per_sample"])
        found, _ = free_runs.failures(row, usual, free_runs.BITS)
        level, flatness, whistle = (found[name] for name in ("level", "flatness", "whistle"))
        passes = abs(level) <= LEVEL and abs(flatness) <= FLATNESS and whistle < WHISTLE
        shown = f"level {level:+.1f} dB, flatness {flatness:+.1f} dB, whistle {whistle:.2f} s, {row.bits:.2f} bits/sample"
        lines.append(f"{clip['file']}: {shown}: {'passes' if passes else 'fails'}")
    return lines


def closing(run: Path, clips: Path, recordings: Path, seconds: float) -> list[str]:
    """Returns the last three lines.

    Args:
        run: Folder of the run, with the likelihoods of `test`.
        clips: Folder of the clips.
        recordings: Folder of the training recordings.
        seconds: Time that the demo took.
    """
    measured = json.loads((run / "nll_test.json").read_text())
    bits = measured["bits_per_sample"]
    alone = next(each["bits_per_sample"] for each in measured["untrained"] if each["name"] == PREDICTORS)
    apart = f"{abs(alone - bits):.4f} {'below' if bits < alone else 'not below'}"
    return [
        f"Done:   trained on {pasteable(recordings)}, tested and sampled in {seconds / 60:.1f} min; listen: {pasteable(clips)}/*.wav",
        f"Result: {bits:.4f} bits/sample on the test split, {apart} the {alone:.4f} of linear predictors alone",
        "Next:   your own recordings: python train.py fit --config configs/audio_folder_cpu.yaml --data.root DIR",
    ]


if __name__ == "__main__":
    os.chdir(ROOT)
    raise SystemExit(demo())
