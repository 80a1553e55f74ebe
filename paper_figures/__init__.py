"""The figures of the paper: drawn from stored results, never computing any."""
