"""The report as HTML: the look of the figures, pictures, templates."""
