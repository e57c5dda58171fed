"""Benchmarks: the old way beside ours beside the limit, in one run."""
