"""Tests without I/O beyond temporary files."""
