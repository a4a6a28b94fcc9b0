import Hummingbird

/// Routes for whoever runs the server.
public struct OperationsRoutes: Sendable {
  let context: ServingContext
  public init(_ context: ServingContext) { self.context = context }
  public func add<C: RequestContext>(to router: Router<C>) {}
}
