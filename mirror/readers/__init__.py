"""Commands that read many keys of both buckets."""
