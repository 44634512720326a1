"""The product pack 'fapolicyd'."""
