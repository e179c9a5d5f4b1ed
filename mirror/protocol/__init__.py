"""The sync of one key."""
