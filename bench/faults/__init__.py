"""The fault matrix: real processes, killed for real, against a provider that says what it was doing (F1 to F36)."""
