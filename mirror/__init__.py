"""The worker's parts: what makes the destination equal to the source, one job per file."""
