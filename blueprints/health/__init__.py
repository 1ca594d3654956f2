"""What machines ask: is the process alive, is the installation ready, how busy is it."""
