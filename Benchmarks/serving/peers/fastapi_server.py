"""The usual way to serve a PyTorch model: FastAPI, pydantic, uvicorn. `fastapi_server.py PORT [WORKERS]`."""
import sys

import torch
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()
torch.manual_seed(0)
model = torch.nn.Sequential(torch.nn.Linear(784, 512), torch.nn.ReLU(), torch.nn.Linear(512, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10)).eval()


class Request(BaseModel):
    instances: list[list[float]]


class Answer(BaseModel):
    predictions: list[list[float]]


@app.get("/ready")
def ready():
    return {}


@app.post("/predict")
async def predict(request: Request) -> Answer:
    with torch.inference_mode():
        return Answer(predictions=model(torch.tensor(request.instances)).tolist())


if __name__ == "__main__":
    # One thread for one example of so small a model is PyTorch's best; more of them only wait for each other.
    torch.set_num_threads(1)
    workers = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    uvicorn.run("fastapi_server:app" if workers > 1 else app, host="127.0.0.1", port=int(sys.argv[1]), workers=workers, log_level="warning", access_log=False)
