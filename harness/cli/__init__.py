"""The command line: thin faces over the session, the store and the renderers. Only this folder prints and exits."""
