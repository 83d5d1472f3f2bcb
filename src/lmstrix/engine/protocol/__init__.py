"""LM Studio's wire: messages, sessions, configuration fields, and the endpoints of every namespace."""
