"""Pictures and live controls."""
