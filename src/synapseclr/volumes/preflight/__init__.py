"""The check of the inputs before the first chunk is cut, and of the whole set afterwards."""

from synapseclr.volumes.preflight.inspection import InputCheck, check_inputs, check_tables
from synapseclr.volumes.preflight.shares import Finding, Share, judge_chunks

__all__ = ["Finding", "InputCheck", "Share", "check_inputs", "check_tables", "judge_chunks"]
