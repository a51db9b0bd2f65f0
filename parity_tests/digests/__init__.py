"""One hash: fixed runs whose checkpoints are compared, byte by byte, with those that are published."""
