"""Prompt files: what is in one, filling its prompts, checking it."""
