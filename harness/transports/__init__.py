"""How guests are reached."""
