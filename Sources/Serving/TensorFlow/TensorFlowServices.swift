import GRPCCore

/// TensorFlow Serving's API over gRPC.
public enum TensorFlowServices {
  public static func all(_ context: ServingContext) -> [any RegistrableRPCService] { [] }
}
