"""One's own account, the workspace's name and time zone, and new workspaces."""
