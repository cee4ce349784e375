"""Pictures for people: cameras, depth, and how views agree."""
