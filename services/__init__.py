"""Verbs: one function, one unit of work. No Flask, no enqueueing.

The rooms, each importing only from those before it; each says in its own first lines what is in it:

people: members, their sign-in and their workspaces.
engine: what keeps tokens fresh and never loses a grant.
authorizing: the one journey through a browser that begins a grant, and its end.
setup: connections and cards as admins type them.
calling: a card's call of its API, and its preview.
operating: what operators ask for and what keeps the installation healthy.

Here: audit, errors, resources, slots, edits (one at a time), floors (where to begin looking for what is due),
preview_tree (a reply to look at, its secrets starred).
"""
