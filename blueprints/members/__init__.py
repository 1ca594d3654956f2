"""Who belongs to the workspace: invitations, roles, removal, password links."""
