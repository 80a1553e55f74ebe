"""Released packages, each in an environment of its own: `python -m simulations.benchmarks rivals`."""
