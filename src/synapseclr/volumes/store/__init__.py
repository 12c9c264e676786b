"""The chunk store: a sharded Zarr group, written shard by shard, read chunk by chunk, verified."""
