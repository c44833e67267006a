"""Where a study lies, and how it is written so that nothing is lost."""
