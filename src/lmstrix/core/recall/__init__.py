"""Whether a model uses its context: codes hidden in prose, the questions about them, and scores."""
