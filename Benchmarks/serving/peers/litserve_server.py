"""LitServe. `litserve_server.py PORT`."""
import sys

import litserve
import torch


class Mlp(litserve.LitAPI):
    def setup(self, device):
        torch.manual_seed(0)
        torch.set_num_threads(1)
        self.model = torch.nn.Sequential(torch.nn.Linear(784, 512), torch.nn.ReLU(), torch.nn.Linear(512, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10)).eval()

    def decode_request(self, request):
        return torch.tensor(request["instances"])

    def predict(self, rows):
        with torch.inference_mode():
            return self.model(rows)

    def encode_response(self, scores):
        return {"predictions": scores.tolist()}


if __name__ == "__main__":
    litserve.LitServer(Mlp(), accelerator="cpu", workers_per_device=1).run(host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", generate_client_file=False)
