"""What admins set up.

connections, configuration (what is typed), cards, headers, destinations (where a token may go), reply_shapes (what may
be shown of a reply nobody could read), replays (using one).
"""
