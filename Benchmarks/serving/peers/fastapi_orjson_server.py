"""FastAPI without validation: orjson reads and writes, NumPy between. The fastest that a page of Python gets. `fastapi_orjson_server.py PORT`."""
import sys

import numpy as np
import orjson
import torch
import uvicorn
from fastapi import FastAPI, Request, Response

app = FastAPI()
torch.manual_seed(0)
torch.set_num_threads(1)
model = torch.nn.Sequential(torch.nn.Linear(784, 512), torch.nn.ReLU(), torch.nn.Linear(512, 512), torch.nn.ReLU(), torch.nn.Linear(512, 10)).eval()


@app.get("/ready")
def ready():
    return {}


@app.post("/predict")
async def predict(request: Request):
    rows = np.asarray(orjson.loads(await request.body())["instances"], dtype=np.float32)
    with torch.inference_mode():
        scores = model(torch.from_numpy(rows)).numpy()
    return Response(orjson.dumps({"predictions": scores}, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning", access_log=False)
