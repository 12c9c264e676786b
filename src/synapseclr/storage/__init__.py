"""Files and objects on disks and in buckets: addresses, whole writes, errors, and sizes that are what they say."""
