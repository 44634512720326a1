"""Where runs, attempts and judgements are kept."""
