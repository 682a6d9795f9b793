"""Small PyTorch modules of the architectures people stream, exported with both of PyTorch's exporters.

``python -m models.exporters [NAME ...]`` writes ``tests/fixtures/exported/<name>.<exporter>.onnx`` again. It needs torch
and onnxscript (the extra ``exporters``); the tests that read the files need neither.

- ``<name>.dynamo`` and ``<name>.torchscript``: a symbolic batch, dimensions named ``N`` and ``T``;
- ``<name>-raw.dynamo`` and ``<name>-raw.torchscript``: batch 1, dimensions as the exporter names them, and neither
  constant folding nor any other optimisation by the exporter.

To add one: a module in one of the files here and a line in ``zoo.ZOO``. Keras models, exported with tf2onnx, are in
``keras_zoo``, which is a program of its own and needs the extra ``exporters-keras``.
"""
