"""Arrays in, numbers out: scores, intervals, decisions. Nothing here knows a study."""
