"""BentoML: `bentoml serve bentoml_server:Mlp --port PORT`."""
import bentoml
import numpy as np
import torch


@bentoml.service(workers=1)
class Mlp:
    def __init__(self):
        torch.manual_seed(0)
        torch.set_num_threads(1)
        self.model = torch.nn.Sequential(torch.nn.Linear(784, 512), torch.nn.ReLU(), torch.nn.Linear(512, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10)).eval()

    @bentoml.api
    def predict(self, instances: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return self.model(torch.from_numpy(instances.astype(np.float32))).numpy()
