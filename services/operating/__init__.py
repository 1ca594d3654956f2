"""What operators ask for, and what keeps the installation healthy.

Refreshes: refreshes (by hand), bulk (many at once), withdrawing (cancelling that),
progress (following them), journal (history and counts).
Standing: pauses (of connections, providers, everything), providers (how they stand), overview, health, doctor,
heartbeats, housekeeping, keys.
"""
