"""Gives LMCache a way to vLLM's KV cache on the processor. LMCache 0.5.6 knows CUDA, XPU, MUSA and HPU; without this it logs
an error, and vLLM serves on, healthy, six seconds slower a request and without moving any KV.

vLLM 0.30 on the processor keeps a contiguous tensor a layer, its first dimension the blocks. How keys lie within a block
depends on the kernel that was chosen for the machine, so that a token is no row of it: whole blocks are moved, as they are.
So a chunk must be whole blocks (chunk_size a multiple of --block-size, save_unfull_chunk off), and both sides need the same
block size, number type, ranks and kind of processor. Not for MLA, layerwise or blending."""

import os


def register():
    from vllm.platforms import current_platform

    # LMCache takes seconds to import: only where it is used.
    if current_platform.is_cpu() and "LMCACHE_CONFIG_FILE" in os.environ:
        import lmcache.v1.gpu_connector as connectors

        connectors.CreateGPUConnector = lambda config, metadata, engine, layout_hints=None: whole_blocks()(config, metadata)


def whole_blocks():
    import torch
    from lmcache.v1.gpu_connector.gpu_connectors import GPUConnectorInterface

    class WholeBlocks(GPUConnectorInterface):
        def __init__(self, config, metadata):
            if metadata.use_mla or config.use_layerwise or config.enable_blending or config.save_unfull_chunk:
                raise ValueError("on the processor LMCache moves whole blocks: no MLA, layerwise, blending, unfull chunks")
            self.layers, _, _, self.heads, self.head_size = metadata.kv_shape

        def get_shape(self, num_tokens):
            return torch.Size([2, self.layers, num_tokens, self.heads * self.head_size])

        def rows(self, start, end, arguments):
            """A row for each block of each layer, and the rows of the tokens from start to end."""
            caches = [cache.view(cache.shape[0], -1) for cache in arguments["kvcaches"]]
            block_size = caches[0].shape[1] // (2 * self.heads * self.head_size)
            slots = arguments["slot_mapping"][start:end]
            if len(slots) % block_size:
                raise ValueError(f"{len(slots)} tokens are no whole blocks of {block_size}: chunk_size must be a multiple of it")
            return caches, slots[::block_size] // block_size, block_size

        def pieces(self, memory, blocks):
            """The memory as a row for each of the blocks of each layer."""
            return memory.tensor.view(self.layers, len(blocks), -1)

        def from_gpu(self, memory_obj, start, end, **arguments):
            caches, blocks, _ = self.rows(start, end, arguments)
            for piece, cache in zip(self.pieces(memory_obj, blocks), caches, strict=True):
                piece.copy_(cache[blocks])

        def to_gpu(self, memory_obj, start, end, **arguments):
            caches, blocks, block_size = self.rows(start, end, arguments)
            # What vLLM's own prefix cache holds may be in use by others: it stays.
            own = min(max(arguments.get("vllm_cached_tokens", 0) - start, 0) // block_size, len(blocks))
            for piece, cache in zip(self.pieces(memory_obj, blocks), caches, strict=True):
                cache[blocks[own:]] = piece[own:]

        def batched_from_gpu(self, memory_objs, starts, ends, **arguments):
            for each in zip(memory_objs, starts, ends, strict=True):
                self.from_gpu(*each, **arguments)

        def batched_to_gpu(self, memory_objs=None, starts=None, ends=None, **arguments):
            for each in zip(memory_objs, starts, ends, strict=True):
                self.to_gpu(*each, **arguments)

    return WholeBlocks
