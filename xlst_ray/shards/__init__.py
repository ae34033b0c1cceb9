"""Speech as shards: the utterance schema, shard files, and the label files beside them."""
