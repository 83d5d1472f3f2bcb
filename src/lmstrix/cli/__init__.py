"""The command line: words to requests, results to the reports that show them."""
