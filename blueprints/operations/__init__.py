"""The operators' page: every connection, the queue, and refreshes by hand."""
