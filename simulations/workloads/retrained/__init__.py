"""Modules that are retrained without some of their samples."""
