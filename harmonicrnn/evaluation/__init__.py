"""Evaluation of models and sets of audio: measurements, their records, and a report page.

Nothing is imported here: the modules need libraries (`harmonicrnn[evaluate]`) that are slow to import.
"""
