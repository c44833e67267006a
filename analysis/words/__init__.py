"""Findings in plain English."""
