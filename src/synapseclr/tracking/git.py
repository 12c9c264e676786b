"""The commit that a run is made by."""

from __future__ import annotations

import subprocess


def git_state() -> dict[str, str]:
    """Commit of the working directory, and whether it has changes; empty outside of git."""
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, timeout=10)
        changes = subprocess.run(
            ["git", "status", "--porcelain"], capture_output=True, text=True, check=True, timeout=30
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    return {"git_commit": commit.stdout.strip(), "git_dirty": str(bool(changes.stdout.strip())).lower()}
