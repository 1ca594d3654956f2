"""The browser's way in: parse, call one service, render."""
