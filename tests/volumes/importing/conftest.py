from published_release import published  # noqa: F401
