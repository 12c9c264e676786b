"""Simulated EM volumes with known truth: neurites, synapses, organelles, traits and defects."""

from synapseclr.simulation.config import ImagingStyle, SimulationConfig
from synapseclr.simulation.volume import NEURITE_TABLE, SIMULATION_TRUTH, SimulatedVolume, simulate

__all__ = ["NEURITE_TABLE", "SIMULATION_TRUTH", "ImagingStyle", "SimulatedVolume", "SimulationConfig", "simulate"]
