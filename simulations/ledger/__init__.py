"""The claims judged on stored rows, written as a page that carries its own digests, and checked."""
