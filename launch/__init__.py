"""The parts of starter.py: how many workers are wanted, and how they are started and stopped."""
