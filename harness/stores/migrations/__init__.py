"""Driver. How a store of any earlier version becomes one of today. Alembic runs ``env.py``."""
