"""What Cardkey costs, and what it survives: measured from outside, as an operator would run it."""
