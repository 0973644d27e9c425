"""Where classes lay before version 0.2: class paths in configs and checkpoints of then are still understood."""

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
    "callbacks.checkpoints": "callbacks.checkpointing",
}
"""Old module to new one; what lies below a module moved with it."""


def current(class_path: str) -> str:
    """The class path as it is now: of a class that moved its new one, of any other the same."""
    for old, new in MOVED.items():
        if class_path.startswith(f"{old}."):
            return new + class_path.removeprefix(old)
    return class_path


WEIGHTS = (
    (r"\bmixer_norm\.", "mixer.norm."),
    (r"\bmlp_norm\.", "mlp.norm."),
    (r"\bmlp\.input\.", "mlp.layer."),
    (r"(\.blocks\.\d+\.)(gate|output)\.", r"\1mixer.\2."),
    (r"(\.blocks\.\d+\.)(input|conv|recurrence)\.", r"\1mixer.layer.\2."),
)
"""What the weights of a residual block were called, and are."""


def of_old_block(settings: dict[str, Any]) -> bool:
    """Whether the settings of a HarmonicRNN are of a time when there was one kind of block: they name no preset."""
    return "preset" not in settings and "levels" in settings


def current_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a HarmonicRNN of then as they are now: there was one preset, and its embedding was called "sinusoidal"."""
    embedding = settings.get("embedding", "sinusoidal")
    return settings | {"preset": "griffin", "embedding": "projected" if embedding == "sinusoidal" else embedding}


def current_weights(weights: dict[str, Any]) -> dict[str, Any]:
    """The weights of a HarmonicRNN by their names of now."""
    renamed = {}
    for name, value in weights.items():
        for old, new in WEIGHTS:
            name = re.sub(old, new, name)
        renamed[name] = value
    return renamed


def bring_up_to_date(checkpoint: dict[str, Any]) -> None:
    """Change the names of settings and weights in a checkpoint's contents to those of now, where they are older."""
    settings, weights = checkpoint.get("hyper_parameters"), checkpoint.get("state_dict", {})
    # A module built by hand keeps only the settings that it was given: not the preset, perhaps, and its weights tell.
    if not isinstance(settings, dict) or not any(re.search(WEIGHTS[0][0], name) for name in weights):
        return
    for key in ("state_dict", "current_model_state"):
        if key in checkpoint:
            checkpoint[key] = current_weights(checkpoint[key])
    checkpoint["hyper_parameters"] = current_settings(settings)
    checkpoint.setdefault("unseen_in_weights", {}).setdefault("unit_first_step", True)
