"""The release, or between two the next one with -dev. lib/version.sh reads it, and the log of a worker begins with it."""

VERSION = "1.3.0-dev"
