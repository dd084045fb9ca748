"""Write a target's list of operators again, from what opt itself says."""

from __future__ import annotations
