"""Side-by-side timings, each stated as a multiple of its floor. `python -m simulations.benchmarks NAME`."""
