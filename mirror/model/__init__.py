"""Pure parts that all others use."""
