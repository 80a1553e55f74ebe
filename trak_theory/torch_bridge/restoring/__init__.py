"""Restored influence of networks of any size: curvature directions of each sample, sketched in one pass."""
