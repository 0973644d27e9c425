"""Experiments that anyone can repeat: named sets of runs of `fit` and `test`, and the tables and plots made of their results.

An experiment is declared by an `Experiment` (declare.py) and listed in registry.py; runner.py runs it, results.py keeps one CSV of it, a
row a run, report.py makes tables and plots of that. See `python -m benchmarks.experiments --help`.
"""
