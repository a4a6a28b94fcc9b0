#!/usr/bin/env python3
"""gRPC's health service and reflection, with the clients that grpcio ships."""
import threading

from harness import Server, model_folder, need, run


def main(apus, check):
    grpc, health_pb2, health_pb2_grpc = need("grpc", "grpc_health.v1.health_pb2", "grpc_health.v1.health_pb2_grpc")
    with model_folder("half_plus_two", "slow") as folder, Server(apus, folder, check=check, wait=True) as server:
        with grpc.insecure_channel(server.grpc) as channel:
            health = health_pb2_grpc.HealthStub(channel)

            def status(service):
                return health_pb2.HealthCheckResponse.ServingStatus.Name(health.Check(health_pb2.HealthCheckRequest(service=service), timeout=10).status)

            check.equal("the server", status(""), "SERVING")
            for service in ["inference.GRPCInferenceService", "tensorflow.serving.PredictionService"]:
                with check.section(service):
                    check.equal(service, status(service), "SERVING")
            check.raises("an unknown service", lambda: status("nope"), lambda error: error.code().name, "NOT_FOUND")
            with check.section("Watch"):
                seen, first = [], threading.Event()
                call = health.Watch(health_pb2.HealthCheckRequest(service=""), timeout=20)

                def watch():
                    try:
                        for update in call:
                            seen.append(health_pb2.HealthCheckResponse.ServingStatus.Name(update.status))
                            first.set()
                    except grpc.RpcError:
                        pass
                thread = threading.Thread(target=watch)
                thread.start()
                first.wait(10)
                check.equal("Watch begins with the state now", seen[:1], ["SERVING"])
                server.terminate()
                thread.join(15)
                check.true("a stream that watches does not hold up the end", not thread.is_alive(), seen)
                call.cancel()


if __name__ == "__main__":
    run(main)
