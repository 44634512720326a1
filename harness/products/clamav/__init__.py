"""The product pack 'clamav'."""
