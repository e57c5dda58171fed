"""Benchmarks: the Java service's method, tis-sync, and the upper bound, in one run."""
