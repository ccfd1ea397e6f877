"""WavSyncSwap and what it replaces: data with the truth of the swap, recipes and schedules, scores."""
