"""Lightning callbacks: checkpoints, logging, audio samples and measurements of a run."""
