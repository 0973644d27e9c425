"""Experiments: named sets of trainings and evaluations, with tables and plots of their results."""
