"""Files as they lie on disk and in buckets: written whole, locked, and no larger than they say."""
