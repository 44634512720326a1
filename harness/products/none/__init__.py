"""The product pack 'none'."""
