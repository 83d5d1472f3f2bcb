"""llama.cpp in a child process per model: starting it, asking it, reading what it streams."""
