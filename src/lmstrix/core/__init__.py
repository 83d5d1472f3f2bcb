"""What decides, from plain values where it can: limits, memory, prompts, answers, benchmarks, what is kept."""
