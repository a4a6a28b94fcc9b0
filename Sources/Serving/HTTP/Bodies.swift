import ApusServables
import Hummingbird

extension Request {
  /// The whole body.
  /// - Throws: ``ServingError``: `resourceExhausted` if it is longer than the limit, `cancelled` if the client has gone.
  func body(upTo limit: Int) async throws(ServingError) -> ByteBuffer {
    do { return try await body.collect(upTo: limit) } catch {
      throw ServingError(.resourceExhausted, "the body has more than \(limit) bytes")
    }
  }
}
