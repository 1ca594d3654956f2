"""Verbs: one function, one unit of work. No Flask, no enqueueing.

Which module has what:

Authorize: authorization (the press of the button), attempts (its rows), redemption (the answer and its checks),
exchanges (code for token), findings (what to know of a success).
Tokens: tokens (the one way to a token), leases (who may send), candidates (what is due and has room), claims (opening
the journal), drains (many at once), settle (storing what came), successes (many good replies at once), states (what a
success or failure does), timing (when a token ends and is due), lifetimes (when more is known of that), introspection
(asking for it), habits (what refreshes teach of a provider), eligibility (who may be refreshed), refreshes (by hand),
bulk (many at once), progress (following them), journal (history and counts), grants (taking away).
Providers: hosts (how each stands), breakers (what answers mean for it), held (tokens that wait for one), backoff (how
long one waits), pauses (of connections, providers, everything), providers (how they stand, for operators).
Replies nobody could read: kept_replies (their rows), reply_shapes (what may be shown), replays (using one).
Connections: connections, configuration (what is typed), client_secrets, overview (for operators).
Cards: cards, headers, destinations (where a token may go); edits (one at a time) is for both.
A card's call: preview (all of it), preview_tree, calls, call_plans, call_authorization, call_replies, call_failures,
dead_tokens (when the API turns one down).
People: members, accounts (one's own), sign_in, passwords, links, workspaces, provisioning (from the command line).
The installation: doctor, health, heartbeats, clock (set back), housekeeping, keys.
Everywhere: audit, errors, resources, slots.
"""
