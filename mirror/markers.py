"""COPY_LAST: marker files wait for what they announce."""
