"""Findings in English."""
