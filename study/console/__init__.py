"""The text interface: arguments, messages, progress, signals."""
