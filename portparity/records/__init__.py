"""Recordings of either framework: what is written down, how exact it is, and how two of them are paired."""
