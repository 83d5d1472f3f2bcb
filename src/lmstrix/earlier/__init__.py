"""What lets scripts of the earlier LMStrix (1.x) go on working: its words, its output, its Python modules.

Nothing else imports this folder but the package root and the command line, each in one place: it can be deleted.
"""
