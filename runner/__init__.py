"""What `make run` starts: portal, worker, scheduler, Redis and the rehearsal provider. Standard library only."""
