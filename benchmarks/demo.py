"""What `make demo` does: draws a clip from the voice in the box; then trains a small model on the piano melodies in `demo/`, tests it,
draws from it, and measures the clips as `benchmarks.free_runs` does, against lower marks.

    python -m benchmarks.demo

It ends with three lines: what was done, how good it is, and what to do next.
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
    """Does it all, and returns the exit status: of the first command that fails, or 0.

    Args:
        config: Of the training.
        recordings: Folder that it trains on.
        logs: Where its runs lie; what the voice draws lies beside them.
        voices: Folder of the voices that come with the library.
        seconds: Length of each clip.
    """
    started = time.perf_counter()
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is loaded, as in train.py
    if status := hear(voices, logs, seconds):
        return status
    from cli import main as experiment  # after the voice, which needs none of it

    drawn = ["--clips", str(CLIPS), "--seconds", str(seconds), "--top_p", "0.99", "--prompt", "test"]
    for command, options in (("fit", []), ("test", []), ("generate", drawn)):
        if status := said("python train.py", experiment, [command, "--config", str(config), *options]):
            return status
    run = find_run(None, logs).folder
    clips = max(run.glob("generated_*"), key=lambda folder: folder.stat().st_mtime)
    print("\n".join(["", *judged(run, clips, recordings), "", *closing(run, clips, recordings, time.perf_counter() - started)]))
    return 0


def hear(voices: Path, logs: Path, seconds: float) -> int:
    """Draws from the first of the voices into a folder beside the runs, or says that there is none; the exit status."""
    names = sorted(path.parent.name for path in voices.glob(f"*/{WEIGHTS}"))
    if not names:
        print("No voice comes with the library: none is heard")
        return 0
    out = logs / names[0]
    options = ["--voice", str(names[0] if voices == VOICES else voices / names[0]), "--seconds", str(seconds)]
    if not (status := said("harmonicrnn", library, ["generate", *options, "--out", str(out), "--overwrite"])):
        print(f"Listen to the voice {names[0]}: {pasteable(out / 'clip_0000.wav')}", flush=True)
    return status


def said(program: str, main: Callable[[Sequence[str]], int], args: Sequence[str]) -> int:
    """The exit status of a command, which is shown as it could be typed."""
    print(f"\n$ {program} {shlex.join(args)}", flush=True)
    return main(args)


def judged(run: Path, clips: Path, recordings: Path) -> list[str]:
    """A line on the marks, and one on each clip of a folder that `generate` made: compared with excerpts of the test split."""
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
    """The last three lines.

    Args:
        run: its folder, with the likelihoods of the test.
        clips: the folder of its clips.
        recordings: what it was trained on.
        seconds: that all took.
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
