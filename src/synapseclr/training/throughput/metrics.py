"""Names of the metrics that depend on the clock or on the machine."""

from __future__ import annotations

SECTIONS = ("augment", "forward", "backward", "optimiser")
"""Parts of a training step; what is left of its time are the copy to the device and the work of other callbacks."""

SHARES = ("data_wait", *(f"{section}_share" for section in SECTIONS))
"""Shares of the training steps' time, each in [0, 1]: waiting for the loader, or for views that are drawn
ahead, then the parts of a step; ``augment`` is 0 where views are drawn ahead."""

WALL_CLOCK_METRICS = ("seconds", *SHARES, "synapses_per_second", "tflops_per_second", "gpu_memory_gb")
"""Columns of a training history that are measured, not learned: two runs that are otherwise equal differ in them.

``seconds``: of the epoch, with validation and probe. ``data_wait`` and ``<section>_share``: see :data:`SHARES`.
``synapses_per_second``: over the training steps, of all processes. ``tflops_per_second``: 10^12 floating point
operations of the model per second, of all processes. ``gpu_memory_gb``: the most that tensors held since the epoch
began, in GB of 10^9 bytes, on the first process's device; there is no such column on a CPU. Times are the first
process's; on CUDA they are the device's, so a wait that the device does not notice does not count.
"""
