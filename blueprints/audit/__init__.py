"""Who did what in the workspace, for its admins."""
