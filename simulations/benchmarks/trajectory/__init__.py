"""Trajectory attribution against the training run itself, side by side."""
