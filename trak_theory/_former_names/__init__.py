"""Modules under the names they had before they moved into rooms; `trak_theory` adds this folder to its path."""
