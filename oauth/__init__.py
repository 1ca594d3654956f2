"""The protocol: OAuth 2.0 as Cardkey speaks it. No Flask, no SQL, no Redis."""
