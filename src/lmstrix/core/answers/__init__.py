"""Answers: choosing a context and an instance, asking, tools, chats, batches, and what is kept of them."""
