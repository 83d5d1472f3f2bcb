"""LMStrix finds the real context limit of every local language model, remembers it, and uses it everywhere."""

__version__ = "2.0.0"
