"""Tools that need an environment of their own: installed there, found again, and asked in a process of their own."""
