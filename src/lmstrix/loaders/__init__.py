"""Users' files as values: model headers, prompt files, texts, and Python code that the user names."""
