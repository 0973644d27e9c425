"""Voice, a trained model with its data settings, and `load`, which reads one from a run, checkpoint or folder."""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import RLock
from types import ModuleType
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from harmonicrnn.audio import Quantiser, Scaling
from harmonicrnn.audio.writing import write_wav
from harmonicrnn.checkpoints import KEY, NET, check_fits, net_weights
from harmonicrnn.errors import UserError, check_choice
from harmonicrnn.files import check_writable, side_product
from harmonicrnn.generation import Engine, generate, make_engine
from harmonicrnn.generation.engine import check_device
from harmonicrnn.generation.prompts import Audio, classes_of
from harmonicrnn.generation.sampler import check_arguments, starting_states
from harmonicrnn.generation.stream import Stream
from harmonicrnn.model_building import build_model, class_of
from harmonicrnn.model_card import UNKNOWN, check_about, check_license
from harmonicrnn.models import AutoregressiveNet, HarmonicRNN, undivided
from harmonicrnn.provenance import provenance
from harmonicrnn.run_facts import read_config, run_facts
from harmonicrnn.runs import WEIGHTS, run_of
from harmonicrnn.voice_folder import (
    FORMAT,
    MOST_CLIPS,
    card_in,
    check_clips,
    check_free,
    check_numbers,
    check_tensors,
    clips_in,
    read_weights,
    write_folder,
)

CHUNK = 1 << 14  # samples of a recording in one pass
_ONE_AT_A_TIME = RLock()  # a CUDA graph is captured while an engine is made, which work of other threads on the GPU can break


@dataclass(frozen=True)
class Voice:
    """A model with its weights, and the data settings of its training.

    net: the model, in evaluation mode.
    quantiser, sample_rate: decode classes; rate in Hz.
    scaling: range mapped to full scale; None if unknown, without a configuration beside the checkpoint.
    checkpoint: its source: a checkpoint, or the weights of a voice's folder.
    about: facts on its training, as JSON values, some of: license, sources, data, likelihood, trained_with, init_from, steps and
        temperature.
    """

    net: AutoregressiveNet
    quantiser: Quantiser
    sample_rate: int
    scaling: Scaling | None
    checkpoint: Path
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def temperature(self) -> float:
        """The default sampling temperature: its own, or 1."""
        return float(self.about.get("temperature", 1.0))

    def engine(self, weights: Literal["full", "bfloat16", "int8"] = "full") -> Engine:
        """Returns an engine to draw from it.

        Args:
            weights: storage of weights: as they are, or rounded to fewer bits, which is faster on the CPU and slightly changes the model.

        Raises:
            UserError: an unknown storage, or rounded weights for a model that is not on the CPU.
        """
        check_choice("weights", weights, ("full", "bfloat16", "int8"))
        with _ONE_AT_A_TIME:
            if weights == "full":
                return make_engine(self.net)
            from harmonicrnn.generation.cpu import CPUEngine  # here, so that numba is imported only when used

            try:
                return CPUEngine(self.net, weights)
            except ValueError as error:
                raise UserError(f"weights {weights}: {error}") from error

    def classes(self, audio: Audio, sample_rate: int | None = None, seconds: float | None = None) -> Tensor:
        """Returns the classes of a recording, or of its first seconds: (T,) int16, as `prompts.classes_of`.

        Raises:
            UserError: the audio cannot be used, or the scaling is not known.
        """
        return classes_of(audio, sample_rate, self.quantiser, self.sample_rate, self._known_scaling(), seconds)

    def _known_scaling(self) -> Scaling:
        if self.scaling is None:
            raise UserError(
                f"{self.checkpoint}: the scaling of its audio is unknown; give `load` the argument scaling, harmonicrnn the option "
                "--scaling, or train.py the option --config"
            )
        return self.scaling

    def nll(self, audio: Audio, sample_rate: int | None = None) -> float:
        """Returns the bits per sample of a whole recording, with carried state; lower is more likely.

        Args:
            audio: a file, or floating-point samples in [-1, 1], (T,) or (channels, T).
            sample_rate: of samples, in Hz; None for the model's, or a file's own.

        Raises:
            UserError: as `classes`; or the likelihood is not finite.
        """
        classes = self.classes(audio, sample_rate).to(next(self.net.parameters()).device)
        with undivided(self.net):
            bits = bits_per_sample(self.net, classes)
        if not math.isfinite(bits):
            raise UserError(f"{self.checkpoint}: its likelihood is not finite; its weights come from a training that diverged")
        return bits

    def generate(
        self,
        seconds: float,
        prompt: Audio | None = None,
        sample_rate: int | None = None,
        clips: int = 1,
        seed: int = 0,
        temperature: float | None = None,
        top_p: float = 1.0,
    ) -> Tensor:
        """Draws new audio: (clips, T) float32 in [-1, 1] at the model's rate, without the prompt.

        Args:
            seconds: of each clip.
            prompt: audio that all clips continue: a file, or floating-point samples in [-1, 1], (T,) or, for one clip, (channels, T); None
                for silence.
            sample_rate: of the prompt's samples, in Hz; None for the model's, or a file's own.
            clips, seed: clip i is a function of (seed, i).
            temperature: as for `harmonicrnn.generation.generate`; None for the voice's own.
            top_p: as for `harmonicrnn.generation.generate`.

        Raises:
            UserError: as `classes`; or a number is out of range.
        """
        temperature = self.temperature if temperature is None else temperature
        check_arguments(clips, seed, temperature, top_p, seconds)
        samples = self._samples("seconds", seconds)
        shape = tuple(getattr(prompt, "shape", ()))
        if clips > 1 and len(shape) > 1 and shape[0] > 1:
            raise UserError(
                f"the prompt has the shape {shape}, which may be channels or prompts: give one that all {clips} clips continue, (T,), or "
                "call once for each"
            )
        heard = None if prompt is None else self.classes(prompt, sample_rate)
        return self.quantiser.decode_centre(
            generate(self.net, samples, clips, prompt=heard, seed=seed, temperature=temperature, top_p=top_p, engine=self.engine())
        )

    def stream(
        self,
        prompt: Audio | None = None,
        sample_rate: int | None = None,
        chunk: float = 0.05,
        seconds: float | None = None,
        seed: int = 0,
        temperature: float | None = None,
        top_p: float = 1.0,
    ) -> Stream:
        """Streams new audio as it is drawn: blocks (n,) of float32 in [-1, 1] at the model's rate, equal to `generate` with the same seed.

        To end it, `close` it from any thread, or leave its `with` block. Streams of one voice are independent; its weights must not change
        meanwhile.

        Args:
            prompt, sample_rate, seed, temperature, top_p: as for `generate`.
            chunk: seconds in a block.
            seconds: in all; None for no end.

        Raises:
            UserError: as `generate`.
        """
        temperature = self.temperature if temperature is None else temperature
        check_arguments(1, seed, temperature, top_p, 1.0 if seconds is None else seconds)
        block, samples = self._samples("chunk", chunk), None if seconds is None else self._samples("seconds", seconds)
        heard = None if prompt is None else self.classes(prompt, sample_rate)[None]
        with _ONE_AT_A_TIME:
            engine, state = self.engine(), starting_states(self.net, heard)([0])
        return Stream(engine, state, self.quantiser, block, samples, seed, temperature, top_p)

    def _samples(self, name: str, seconds: float) -> int:
        """Converts seconds to samples; raises UserError if that is less than one."""
        if not 0 < seconds < math.inf:
            raise UserError(f"{name} must be above 0 and finite, got {seconds}")
        if not (samples := round(seconds * self.sample_rate)):
            raise UserError(f"{name} ({seconds}) is less than one sample at {self.sample_rate} Hz")
        return samples

    def save(
        self,
        folder: Path | str,
        license: str | None = None,
        sources: str | None = None,
        clips: Sequence[Path | str] = (),
        temperature: float | None = None,
        seconds: float = 0.0,
    ) -> None:
        """Writes a voice folder, atomically: `model.safetensors`, `config.json`, the card `README.md`, and clips.

        A voice that was loaded from such a folder keeps its card and clips, unless others are given or drawn.

        Args:
            folder: must not exist, or be empty.
            license: the Hub's identifier of the weights' licence, such as "cc-by-sa-3.0".
            sources: of the training recordings, and their licences; Markdown.
            clips: WAV or FLAC files drawn by it, at most four.
            temperature: default sampling temperature; None keeps the voice's.
            seconds: of each of four clips, drawn where there are none; 0 for none.

        Raises:
            UserError: the folder is in use or cannot be written, an argument cannot be used, or the scaling is not known.
        """
        scaling, folder = self._known_scaling(), Path(folder)
        if seconds:
            self._samples("seconds", seconds)
        check_free(folder)
        check_writable(folder)
        given: dict[str, Any] = {
            key: value for key, value in (("license", license and check_license(license)), ("sources", sources)) if value
        }
        if temperature is not None:
            check_arguments(1, 0, temperature, 1.0)
            given["temperature"] = temperature
        from_voice, before, about = self.checkpoint.name == WEIGHTS, self.checkpoint.parent, {"license": UNKNOWN} | self.about
        if not from_voice and self.checkpoint.is_file():
            about |= run_facts(run_of(self.checkpoint))
        shown = [Path(clip) for clip in clips] or (clips_in(before) if from_voice else [])
        check_clips(shown)
        drawn = bool(seconds and not shown)
        text = card_in(before) if from_voice and not (given or clips or drawn) else None
        check_about(about | given, self.checkpoint, "correct it in the voice's about")
        weights, arguments = self.net.state_dict(), self.net.arguments if isinstance(self.net, HarmonicRNN) else None
        if arguments is not None:
            with torch.random.fork_rng(devices=[]):
                check_tensors(folder / WEIGHTS, weights, build_model(arguments, self.checkpoint, weights).state_dict())
        config = {
            "format": FORMAT,
            "model": {"class": type(self.net).__name__, "arguments": arguments},
            "quantiser": asdict(self.quantiser),
            "sample_rate": self.sample_rate,
            "scaling": scaling,
            "unseen_in_weights": self.net.unseen_in_weights,
            "parameters": parameters_of(self.net),
            "about": about | given,
            "saved_with": provenance(),
        }
        with ExitStack() as stack:
            if drawn:
                with side_product("the voice's clips"):
                    place = Path(stack.enter_context(TemporaryDirectory()))
                    shown = replace(self, about=about | given)._draw_clips(seconds, place)
            write_folder(folder, weights, config, shown, text)

    def _draw_clips(self, seconds: float, folder: Path) -> list[Path]:
        paths = [folder / f"{number}.wav" for number in range(MOST_CLIPS)]
        for path, samples in zip(paths, self.generate(seconds, clips=MOST_CLIPS), strict=True):
            write_wav(path, samples.cpu().numpy(), self.sample_rate)
        return paths

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> "Voice":
        """Loads a voice from a folder, or from the Hugging Face Hub ("OWNER/NAME"), which is downloaded once into the Hub's cache.

        Args:
            name: of either.
            options: those of `huggingface_hub.ModelHubMixin.from_pretrained`: revision, token, cache_dir, local_files_only, force_download.

        Raises:
            UserError: there is none, or it cannot be downloaded or used.
        """
        hub = _hub()
        if Path(name).is_dir():
            return load(name)
        with hub.told(name):
            voice: Voice = hub.HubVoice.from_pretrained(name, load=load, **options).loaded
            return voice

    def save_pretrained(self, folder: Path | str, **options: Any) -> str | None:
        """As `save`, with its options and those of `huggingface_hub.ModelHubMixin.save_pretrained`: push_to_hub=True uploads it.

        Raises:
            UserError: as `save`; the Hub refuses; or its library is not installed.
        """
        check_free(Path(folder))  # the mixin would remove an existing config
        return self._through_hub("save_pretrained", folder, options)

    def push_to_hub(self, name: str, **options: Any) -> str:
        """Uploads the folder of `save` to the Hugging Face Hub, "OWNER/NAME", which is created if needed, public unless `private=True`;
        returns the commit's address.

        Args:
            name: of the repository.
            options: those of `save`, and of `huggingface_hub.ModelHubMixin.push_to_hub`: private, token, branch, create_pr, commit_message.

        Raises:
            UserError: it cannot be saved, the Hub refuses, or its library is not installed.
        """
        url = self._through_hub("push_to_hub", name, options)
        assert url is not None
        return url

    def _through_hub(self, method: str, where: Path | str, options: dict[str, Any]) -> str | None:
        """Calls a method of the Hub's mixin with `options`, without those of `save`, which writes the folder."""
        hub, own = _hub(), {key: options.pop(key) for key in ("license", "sources", "clips", "temperature", "seconds") if key in options}
        with hub.told(where):
            url: str | None = getattr(hub.HubVoice(partial(self.save, **own)), method)(where, **options)
            return url


@torch.inference_mode()
def parameters_of(net: AutoregressiveNet) -> int:
    """Returns the number of parameters."""
    return sum(parameter.numel() for parameter in net.parameters())


def bits_per_sample(net: AutoregressiveNet, classes: Tensor) -> float:
    """Returns the bits per sample of classes (T,) on the model's device, with carried state."""
    nats, state = 0.0, None
    for piece in classes.split(CHUNK):
        each, state = net.nats(piece[None], state)
        nats += each.sum(dtype=torch.float64).item()
    return nats / len(classes) / math.log(2)


def _hub() -> ModuleType:
    """Imports `harmonicrnn.hub`; raises UserError if the Hub's library, an extra, is not installed."""
    try:
        return import_module("harmonicrnn.hub")
    except ModuleNotFoundError as error:
        raise UserError(f"the Hub needs the package {error.name}: pip install '.[hub]'") from error


def load(
    path: Path | str, scaling: Scaling | None = None, device: str | torch.device = "cpu", net: AutoregressiveNet | None = None
) -> Voice:
    """Loads a run's model (the best, or else the last checkpoint, with averaged weights if there are any), a checkpoint's, or a voice.

    Args:
        path: a run's folder, a checkpoint, a voice's folder, or the name of a voice that comes with the library.
        scaling: range mapped to full scale; None for that in the run's config.yaml or the voice's config.json.
        device: of the model.
        net: takes the weights: the model of a baseline or of your own module. None builds HarmonicRNN as the checkpoint describes it.

    Raises:
        UserError: there is no such model, or it cannot be used.
    """
    if scaling is not None:
        check_choice("scaling", scaling, get_args(Scaling))
    check_device(device)
    path, checkpoint = read_weights(Path(path))
    settings = checkpoint.get("hyper_parameters", {})
    if not {"sample_rate", "law"} <= settings.keys():
        raise UserError(f"{path}: is of {class_of(settings)}, which is no autoregressive model")
    net = build_model(settings, path, checkpoint["state_dict"]) if net is None else net
    quantiser, rate = Quantiser(net.bits, settings["law"]), settings["sample_rate"]
    config = checkpoint.get("voice")
    if config is not None:
        check_tensors(path, net_weights(checkpoint), net.state_dict())
        check_numbers(path, config, net.bits, parameters_of(net))
    check_fits(checkpoint, net, path, prefix=NET, known={"law": quantiser.law, "sample_rate": rate})
    net.load_state_dict(net_weights(checkpoint))
    net.set_cells(*quantiser.cells())
    try:
        net = net.to(device)
    except (RuntimeError, AssertionError) as error:  # the latter for backends that torch was built without
        raise UserError(f"device {device}: cannot be used: {str(error).splitlines()[0]}") from error
    if config is not None:
        return Voice(net.eval(), quantiser, rate, scaling or config["scaling"], path, config["about"])
    about = {"trained_with": {key: value for key, value in checkpoint[KEY].items() if key != "format"}}
    about |= {"steps": checkpoint["global_step"]} if "global_step" in checkpoint else {}
    return Voice(net.eval(), quantiser, rate, scaling or _scaling(path), path, about)


def _scaling(checkpoint: Path) -> Scaling | None:
    """Returns the scaling of a checkpoint's run; None if it is not in a run."""
    run = run_of(checkpoint)
    data = read_config(run).get("data") or {}
    found: Scaling | None = (data.get("init_args") or {}).get("scaling")
    if found is not None:
        check_choice(f"{run.config}: data.scaling", found, get_args(Scaling))
    return found
