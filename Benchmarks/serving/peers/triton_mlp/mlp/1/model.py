"""Triton's server with its Python backend: the only one in the wheel of nvidia-pytriton."""
import numpy as np
import triton_python_backend_utils as triton


class TritonPythonModel:
    def initialize(self, args):
        random = np.random.default_rng(0)
        self.layers = [(random.standard_normal((i, o), np.float32) / i ** 0.5, np.zeros(o, np.float32)) for i, o in [(784, 512), (512, 512), (512, 10)]]

    def execute(self, requests):
        rows = [triton.get_input_tensor_by_name(request, "image").as_numpy() for request in requests]
        value = np.concatenate(rows)
        for i, (weight, bias) in enumerate(self.layers):
            value = value @ weight + bias
            if i < 2:
                value = np.maximum(value, 0)
        answers, at = [], 0
        for row in rows:
            answers.append(triton.InferenceResponse([triton.Tensor("scores", value[at:at + len(row)])]))
            at += len(row)
        return answers
