import Hummingbird

/// The Open Inference Protocol and Triton's extensions of it over HTTP.
public struct InferenceRoutes: Sendable {
  let context: ServingContext
  public init(_ context: ServingContext) { self.context = context }
  public func add<C: RequestContext>(to router: Router<C>) {}
}
