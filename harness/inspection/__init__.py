"""Pure. What is in a build that nobody here made: found out from headers and lists, without running anything of it."""
