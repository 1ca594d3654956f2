"""What keeps tokens fresh.

Refreshing: tokens (the one way to a token), leases (who may send), candidates (what is due and has room), claims
(opening the journal), drains (many at once), settle (storing what came), successes (many good replies at once), states
(what a success or failure does), advice (what to do about a failure), eligibility (who may be refreshed),
client_secrets.
When: timing (when a token ends and is due), lifetimes (when more is known of that), introspection (asking for it),
habits (what refreshes teach of a provider), clock (set back).
Providers: hosts (how each stands), breakers (what answers mean for it), held (tokens that wait for one), backoff (how
long one waits).
Replies nobody could read: kept_replies (their rows).
"""
