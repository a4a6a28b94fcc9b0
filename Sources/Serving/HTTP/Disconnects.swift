import ApusServables
import Hummingbird

/// Runs `work` on a request, and cancels its task if the client goes away meanwhile, so that what it has waiting in a queue ends.
///
/// The request's body must be read from the one that `work` is given, not from the request.
/// - Throws: ``ServingError``: what `work` throws; `cancelled` if the client has gone.
func withDisconnectCancellation<Value: Sendable>(
  _ request: Request, _ work: @escaping @Sendable (Request) async throws(ServingError) -> Value
) async throws(ServingError) -> Value {
  do {
    return try await request.body.consumeWithCancellationOnInboundClose { body in
      try await work(Request(head: request.head, body: body))
    }
  } catch let error as ServingError {
    throw error
  } catch {
    throw ServingError(.cancelled, "the client has gone")
  }
}
