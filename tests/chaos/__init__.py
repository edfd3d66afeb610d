"""Faults at random moments."""
