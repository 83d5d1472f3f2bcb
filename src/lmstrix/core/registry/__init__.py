"""lmstrix.json: what is known of each model, kept without loss; and what a scan and a save do to it."""
