"""What a person types and sees: arguments, messages, progress, signals."""
