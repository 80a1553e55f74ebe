"""One program per rival. Each imports the rival, numpy and the standard library, and nothing of this project's core."""
