#!/usr/bin/env python3
"""The Open Inference Protocol's own gRPC client (PyPI: open-inference-grpc)."""
import struct

from harness import Server, model_folder, need, run


def main(apus, check):
    grpc, protocol, service = need("grpc", "open_inference.grpc.protocol", "open_inference.grpc.service")
    with model_folder("half_plus_two", "every_type") as folder, Server(apus, folder, check=check) as server:
        with grpc.insecure_channel(server.grpc) as channel:
            stub = service.GRPCInferenceServiceStub(channel)
            with check.section("health and metadata"):
                check.true("live", stub.ServerLive(protocol.ServerLiveRequest(), timeout=10).live)
                check.true("ready", stub.ServerReady(protocol.ServerReadyRequest(), timeout=10).ready)
                check.true("model ready", stub.ModelReady(protocol.ModelReadyRequest(name="half_plus_two"), timeout=10).ready)
                check.true("server's name", stub.ServerMetadata(protocol.ServerMetadataRequest(), timeout=10).name != "")
                model = stub.ModelMetadata(protocol.ModelMetadataRequest(name="half_plus_two"), timeout=10)
                check.equal("inputs", [(i.name, i.datatype, list(i.shape)) for i in model.inputs], [("x", "FP32", [-1])])
                check.equal("versions", list(model.versions), ["1"])

            def infer(raw=None, **contents):
                tensor = protocol.ModelInferRequest.InferInputTensor(name="x", datatype="FP32", shape=[2])
                if contents:
                    tensor.contents.CopyFrom(protocol.InferTensorContents(**contents))
                return stub.ModelInfer(protocol.ModelInferRequest(model_name="half_plus_two", id="a", inputs=[tensor],
                                                                  raw_input_contents=[raw] if raw is not None else []), timeout=10)

            with check.section("infer"):
                answer = infer(fp32_contents=[1, 2])
                values = list(answer.outputs[0].contents.fp32_contents) or list(struct.unpack("<2f", answer.raw_output_contents[0]))
                check.close("typed contents", values, [2.5, 3])
                check.equal("id", answer.id, "a")
                answer = infer(struct.pack("<2f", 2, 4))
                check.close("raw contents", struct.unpack("<2f", answer.raw_output_contents[0]), [3, 4])
                code = lambda error: error.code().name
                check.raises("raw and typed contents at once", lambda: infer(b"12345678", fp32_contents=[1, 2]), code, "INVALID_ARGUMENT")
                check.raises("too few bytes", lambda: infer(b"1234"), code, "INVALID_ARGUMENT")
                check.raises("contents of another type", lambda: infer(int_contents=[1, 2]), code, "INVALID_ARGUMENT")


if __name__ == "__main__":
    run(main)
