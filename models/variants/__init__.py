"""Variants of a component's model: smaller or faster forms of it, kept only where they pay."""
