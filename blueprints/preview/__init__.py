"""Trying a card, and the frame in which the rendered card is shown."""
