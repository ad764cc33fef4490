"""Other programs for the same work, which the benchmarks compare with this package."""
