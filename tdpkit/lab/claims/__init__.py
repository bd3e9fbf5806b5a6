"""The review's claims, each with the experiment that decides it or the reason why none can."""
