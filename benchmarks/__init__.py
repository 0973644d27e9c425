"""Benchmarks: each checks its results against a reference first, then prints machine, versions, commit, median and spread."""
