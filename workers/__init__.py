"""The clock's and the queue's way in: unpack, call one service. No Flask."""
