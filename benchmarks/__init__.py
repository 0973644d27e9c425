"""One script per claim of speed: each checks equality first, and prints machine, versions, commit, median and spread."""
