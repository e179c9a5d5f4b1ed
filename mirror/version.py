"""The release, or between two the next one with -dev. lib/names.sh reads it, and a worker's log begins with it."""

VERSION = "1.5.0-dev"
