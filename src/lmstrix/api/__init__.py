"""Servers as a `ModelBackend`: LM Studio and the embedded engine over its SDK, others over OpenAI's HTTP."""
