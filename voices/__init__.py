"""Trained models as they are used in scripts and notebooks: the likelihood of audio, and new audio."""

from voices.voice import Voice, load

__all__ = ["Voice", "load"]
