"""Target profiles: boards, their NPUs, operator lists and integer arithmetic."""
