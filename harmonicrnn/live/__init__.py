"""A page in the browser on which voices are heard while they play, on this machine alone."""
