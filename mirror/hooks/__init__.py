"""Options that stand around the sync of a key."""
