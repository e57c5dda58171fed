"""A synthetic TCS, as the Java service would have left it, for the demo, tests and benchmarks."""
