"""How good models and sets of audio are, as numbers with what they depend on, and as a page that shows and plays it.

Nothing is imported here, as its parts need libraries (`harmonicrnn[evaluate]`) that take long to import.
"""
