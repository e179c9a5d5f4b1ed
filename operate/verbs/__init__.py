"""One file for each verb. Its docstring is its help, and a verb exists because its file does."""
