"""From a training file to batches: reading, masks, packing, mixing. `reading` imports no torch; the API uses it."""
