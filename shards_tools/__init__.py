"""mlrec-shards: packs raw MicroLens folders into WebDataset shards, checks them, and makes synthetic ones."""
