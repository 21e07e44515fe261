"""How Anabranch is deployed; only what is written in Python is a package."""
