import ApusServables
import GRPCCore

// What the services of both protocols share.

extension ServingContext {
  /// Runs a call's request and notes it. gRPC does not cancel the task of a call whose client has gone; here that takes it out of the queue.
  func inferOnCall(
    _ model: ServedModel, _ request: InferenceRequest, api: RequestRecord.API, arrived: ContinuousClock.Instant
  ) async throws(ServingError) -> InferenceResponse {
    let work = Task { () async -> Result<InferenceResponse, ServingError> in
      do throws(ServingError) {
        return .success(try await infer(model, request, api: api, arrived: arrived))
      } catch {
        return .failure(error)
      }
    }
    let result = await withRPCCancellationHandler {
      await withTaskCancellationHandler {
        await work.value
      } onCancel: {
        work.cancel()
      }
    } onCancelRPC: {
      work.cancel()
    }
    return try result.get()
  }
}

extension ServingError {
  /// The error as gRPC says it, with its hint when to come back.
  var rpcError: RPCError {
    var metadata = Metadata()
    if let retryAfter { metadata.addString("\(max(1, retryAfter.nanoseconds / 1_000_000))", forKey: "grpc-retry-pushback-ms") }
    return RPCError(
      code: .init(Status.Code(rawValue: code.rawValue) ?? .unknown) ?? .unknown, message: message, metadata: metadata)
  }
}

func answering<Value>(_ body: () async throws(ServingError) -> Value) async throws(RPCError) -> Value {
  do throws(ServingError) { return try await body() } catch { throw error.rpcError }
}

extension Metadata {
  /// The time that the caller gives the call.
  var timeoutOfCall: Duration? {
    guard let text = self[stringValues: "grpc-timeout"].first(where: { _ in true }), let unit = text.last,
      let count = Int(text.dropLast()), count >= 0, count < 1 << 40
    else { return nil }
    switch unit {
    case "H": return .seconds(count * 3600)
    case "M": return .seconds(count * 60)
    case "S": return .seconds(count)
    case "m": return .milliseconds(count)
    case "u": return .microseconds(count)
    case "n": return .nanoseconds(count)
    default: return nil
    }
  }
}
