"""What lets scripts of the earlier LMStrix (1.x) go on working: its words, its output, its Python modules.

It can be deleted: `cli.earlier_words` goes with it, two --compat options, and three places in the package root.
"""
