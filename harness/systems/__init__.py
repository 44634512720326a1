"""What operating systems guests run, and how programs live there."""
