from published_release import published_bucket, small_configuration  # noqa: F401
