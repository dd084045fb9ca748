"""The quantiser's side of `quantizer.py`, in the Python that has esp-ppq: see `own_environment/answering.py`."""

import math
import time

import numpy as np
import onnx
import torch
from esp_ppq.api.espdl_interface import get_target_platform
from esp_ppq.api.interface import dispatch_graph, load_onnx_graph
from esp_ppq.api.setting import QuantizationSettingFactory
from esp_ppq.core import DataType, QuantizationStates
from esp_ppq.executor import TorchExecutor
from esp_ppq.IR import QuantableOperation
from esp_ppq.lib import Exporter, Quantizer
from esp_ppq.quantization.optim import QuantizationOptimizationPass, RuntimeCalibrationPass


class GivenScales(QuantizationOptimizationPass):
    """In place of its calibration: the scale of every tensor that decides about itself."""

    def __init__(self, exponents):
        super().__init__("scales of picoquant")
        self.exponents = exponents

    def optimize(self, graph, **_):
        """Set them; tensors within layers follow the one that their layer gives."""
        for config, variable in tensors(graph):
            if config.state == QuantizationStates.INITIAL and variable.dtype == DataType.FP32:  # no shapes
                if variable.name not in self.exponents:
                    raise ValueError(f"tensor {variable.name} has no range")
                config.scale = torch.tensor(2.0 ** self.exponents[variable.name])
                config.offset = torch.tensor(0.0)
                config.state = QuantizationStates.ACTIVATED


def tensors(graph):
    """Computed tensors, each with its quantisation."""
    return [
        (config, variable)
        for operation in graph.operations.values()
        if isinstance(operation, QuantableOperation)
        for config, variable in operation.config_with_variable
        if not variable.is_parameter
    ]


def quantised(model, exponents, chip):
    """A quantised graph and the platform that it is for."""
    platform = get_target_platform(chip, "w8a8")
    setting = QuantizationSettingFactory.espdl_setting(num_of_bits=8)
    graph = load_onnx_graph(onnx_import_file=model)
    graph = dispatch_graph(graph, platform, setting.dispatcher, setting.dispatching_table)
    quantizer = Quantizer(platform, graph)
    usual = quantizer.build_quant_pipeline

    def with_our_scales(setting):
        pipeline = usual(setting)
        ours = GivenScales(exponents)
        pipeline._pipeline = [
            ours if isinstance(step, RuntimeCalibrationPass) else step for step in pipeline._pipeline
        ]
        return pipeline

    quantizer.build_quant_pipeline = with_our_scales
    inputs = onnx.load(model, load_external_data=False).graph.input
    shapes = [[side.dim_value for side in item.type.tensor_type.shape.dim] for item in inputs]
    nothing = [torch.zeros(shape) for shape in shapes]
    quantizer.quantize(
        inputs=nothing,
        calib_dataloader=[nothing],
        executor=TorchExecutor(graph=quantizer._graph, device="cpu"),
        setting=setting,
        calib_steps=1,
        collate_fn=None,
    )
    return quantizer._graph, platform


def exponents_of(graph):
    """The exponent of each computed tensor where it is made, else where it is read."""
    found = {}
    for config, variable in tensors(graph):
        if config.scale is not None and (variable.source_op is None or variable.name not in found):
            found[variable.name] = round(math.log2(float(config.scale.max())))
    return found


def questions():
    """What builds and executes networks, by name."""
    loaded = []

    def build(model, exponents, chip, out):
        graph, platform = quantised(model, exponents, chip)
        Exporter(platform=platform).export(file_path=out, graph=graph, export_config=False)
        return exponents_of(graph)

    def load(model, exponents, chip):
        loaded.append(TorchExecutor(graph=quantised(model, exponents, chip)[0], device="cpu"))

    def run(inputs):
        given = [
            torch.from_numpy(np.frombuffer(content, "<f4").reshape(shape).copy()) for shape, content in inputs
        ]
        began = time.perf_counter()
        results = loaded[-1].forward(inputs=given)
        seconds = time.perf_counter() - began
        values = [value.detach().numpy() for value in results]
        return seconds, [(value.shape, value.astype("<f4").tobytes()) for value in values]

    return {"build": build, "load": load, "run": run}
