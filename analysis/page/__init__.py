"""The report as HTML: figures' look, pictures, templates."""
