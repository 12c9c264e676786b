"""Gaussian processes on features: a trait's value where it was not measured, with its uncertainty."""
