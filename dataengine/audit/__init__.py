"""Is this data what it says it is? Rules over manifests, shards and foreign annotation files."""
