"""What a test of traffic found: on the terminal, as JSON, as Markdown, as a page."""
