"""The command wait: until all that the source holds under a prefix is in the destination."""
