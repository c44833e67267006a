"""Statistics on arrays: scores, intervals, decisions. Nothing here knows what a study is."""
