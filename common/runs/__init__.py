"""The training scripts: options, command line, run folder, checkpoint, and a run of each kind."""
