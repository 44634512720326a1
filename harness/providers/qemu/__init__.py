"""Guests that are virtual machines, forked from one that has booted already."""
