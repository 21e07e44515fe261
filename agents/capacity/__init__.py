"""How much of everything a pipeline needs for a rate, from what an event was measured to cost."""
