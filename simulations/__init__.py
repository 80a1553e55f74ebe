"""Simulation studies of data attribution: what is computed, where it is kept, and how it is run."""
