"""Finding the real context limit: what is believed, which length to try, trying it, judging the answer."""
