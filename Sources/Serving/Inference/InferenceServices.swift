import GRPCCore

/// The Open Inference Protocol and Triton's extensions of it over gRPC.
public enum InferenceServices {
  public static func all(_ context: ServingContext) -> [any RegistrableRPCService] { [] }
}
