"""The pytest face: suite files are collected, each cell is a test. Loaded by the entry point ``pytest11``."""
