"""What is known of a study: trials, epochs, predictions, as frames."""
