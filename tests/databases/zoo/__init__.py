"""Database objects of every kind, one small file of SQL each, and what reads those files."""
