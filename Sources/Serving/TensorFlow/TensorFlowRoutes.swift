import Hummingbird

/// TensorFlow Serving's API over HTTP.
public struct TensorFlowRoutes: Sendable {
  let context: ServingContext
  public init(_ context: ServingContext) { self.context = context }
  public func add<C: RequestContext>(to router: Router<C>) {}
}
