"""Which of the machines that work together this one is."""

index = 0
"""In the last launch of this process. Machine 0 hosts rank 0: it reports, and its results are kept."""
