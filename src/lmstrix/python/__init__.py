"""The Python API: LMStrix and AsyncLMStrix."""
