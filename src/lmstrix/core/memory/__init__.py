"""How many bytes a model takes at a context length: weights, cache, buffers; and what fits a machine."""
