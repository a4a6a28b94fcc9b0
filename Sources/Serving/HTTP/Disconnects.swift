import ApusServables
import Hummingbird

/// Whether the server itself cancels the task of a request whose client has gone.
enum Disconnects {
  @TaskLocal static var areWatched = false
}

/// Runs `work` on a request, and cancels its task if the client goes away meanwhile, so that what it has waiting in a queue ends.
///
/// The request's body must be read from the one that `work` is given, not from the request. On HTTP/1.1 connections of a
/// ``ModelServer`` this costs nothing: they are watched already. Elsewhere (HTTP/2, another server) it reads on from the connection,
/// which closes it after the answer.
/// - Throws: ``ServingError``: what `work` throws; `cancelled` if the client has gone.
func withDisconnectCancellation<Value: Sendable>(
  _ request: Request, _ work: @escaping @Sendable (Request) async throws(ServingError) -> Value
) async throws(ServingError) -> Value {
  if Disconnects.areWatched { return try await work(request) }
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
