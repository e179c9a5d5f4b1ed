"""The release. lib/version.sh reads it for the scripts, and the first line of the worker's log shows it."""

VERSION = "1.2.0"
