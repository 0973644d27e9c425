"""Translates class paths, settings and weight names from before version 0.2, for old configs and checkpoints."""

import re
from typing import Any

MOVED = {
    "parallel": "harmonicrnn.parallel",
    "models": "harmonicrnn.models",
    "lightning_modules.autoregressive": "lightning_modules.autoregressive_module",
    "lightning_modules.baselines": "lightning_modules.baseline_modules",
    "lightning_modules.digits": "lightning_modules.digit_module",
    "lightning_modules.harmonic": "lightning_modules.harmonic_module",
    "datamodules.base": "datamodules.audio_datamodule",
    "datamodules.memory": "datamodules.memory_task",
    "datamodules.beethoven": "datamodules.hub_wavs",
    "datamodules.youtube_mix": "datamodules.hub_wavs",
    "datamodules.sc09_digits": "datamodules.sc09",
    "datamodules.synthetic": "datamodules.generated_audio",
    "callbacks.checkpoints": "callbacks.checkpointing",
    "datamodules.published": "datamodules.datasets",
    "datamodules.datasets.HubWavs": "datamodules.hub_wavs.HubWavs",
    "datamodules.datasets": "datamodules",
    "callbacks.checkpointing.OneFile": "callbacks.checkpoint_files.OneFile",
    "callbacks.checkpointing": "callbacks",
    "callbacks.run_record.RandomStates": "callbacks.random_states.RandomStates",
    "callbacks.throughput.TrainingBar": "callbacks.training_bar.TrainingBar",
    "callbacks.loggers": "callbacks.forgiving_loggers",
}
"""New module or class by the old name. Submodules of a module move along. A module that was split maps to the package that exports its
public classes. Entries are applied in this order: a class that moved twice has two entries."""


def current(class_path: str) -> str:
    """Returns the current class path; unchanged if the class did not move."""
    for old, new in MOVED.items():
        if class_path == old or class_path.startswith(f"{old}."):
            class_path = new + class_path.removeprefix(old)
    return class_path


WEIGHTS = (
    (r"\bmixer_norm\.", "mixer.norm."),
    (r"\bmlp_norm\.", "mlp.norm."),
    (r"\bmlp\.input\.", "mlp.layer."),
    (r"(\.blocks\.\d+\.)(gate|output)\.", r"\1mixer.\2."),
    (r"(\.blocks\.\d+\.)(input|conv|recurrence)\.", r"\1mixer.layer.\2."),
)
"""Old and new names of the weights of a residual block."""


def of_old_block(settings: dict[str, Any]) -> bool:
    """Returns whether settings of a HarmonicRNN predate presets."""
    return "preset" not in settings and "levels" in settings


def current_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Translates old settings of a HarmonicRNN: there was one preset, with its embedding called "sinusoidal"."""
    embedding = settings.get("embedding", "sinusoidal")
    return settings | {"preset": "griffin", "embedding": "projected" if embedding == "sinusoidal" else embedding}


def current_weights(weights: dict[str, Any]) -> dict[str, Any]:
    """Returns the weights of a HarmonicRNN under their current names."""
    renamed = {}
    for name, value in weights.items():
        for old, new in WEIGHTS:
            name = re.sub(old, new, name)
        renamed[name] = value
    return renamed


def bring_up_to_date(checkpoint: dict[str, Any]) -> None:
    """Updates old names of settings and weights in a checkpoint's contents, in place."""
    settings, weights = checkpoint.get("hyper_parameters"), checkpoint.get("state_dict", {})
    # A module built by hand stores only the settings it was given, maybe without the preset: check its weights too.
    if not isinstance(settings, dict) or not any(re.search(WEIGHTS[0][0], name) for name in weights):
        return
    for key in ("state_dict", "current_model_state"):
        if key in checkpoint:
            checkpoint[key] = current_weights(checkpoint[key])
    checkpoint["hyper_parameters"] = current_settings(settings)
    checkpoint.setdefault("unseen_in_weights", {}).setdefault("unit_first_step", True)
