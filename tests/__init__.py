"""The tests of Anabranch."""
