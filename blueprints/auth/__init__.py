"""Setting up, signing in and out, invitations, new passwords."""
