"""One report of a benchmark in many shapes: terminal, page, markdown, CSV, JUnit."""
