"""Records to text: tables, notes and answers on the terminal, and JSON; benchmark reports in `bench`."""
