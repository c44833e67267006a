"""What is done with a finished network: pictures read for it, tables written, other formats made, neighbours found."""
