"""Benchmarks: what to measure and in which order, measuring it, power and memory, statistics, comparison."""
