import ApusExport
import ApusFormats
import ApusTensor

/// Runs the requests to one version of a model: lets them wait, joins them to batches, and computes on threads of its own.
///
/// Requests are joined where ``SchedulingOptions/batching`` asks for it and all inputs and outputs of a signature have one open first
/// dimension in common, along which examples are counted. The model must treat each example by itself, as inference does; with
/// ``SchedulingOptions/Batching/padsVariableLengths`` it must also ignore what is padded, such as by an attention mask among its
/// inputs.
public final class Scheduler: Sendable {
  public let servable: any Servable
  public let options: SchedulingOptions
  public let statistics: ModelStatistics
  private let layouts: [String: SignatureLayout]
  private let defaultLayout: String?
  private let core: SchedulerCore
  private let cache: SharedCache?

  /// - Parameter name: of the model, for messages.
  public init(_ servable: any Servable, name: String, options: SchedulingOptions = .init(), statistics: ModelStatistics = .init())
  {
    (self.servable, self.options, self.statistics) = (servable, options, statistics)
    var layouts: [String: SignatureLayout] = [:]
    for (number, (name, signature)) in servable.signatures.sorted(by: { $0.key < $1.key }).enumerated() {
      layouts[name] = SignatureLayout(name, signature, number: number)
    }
    self.layouts = layouts
    defaultLayout = servable.defaultSignature
    cache = options.cacheBytes > 0 ? SharedCache(limit: options.cacheBytes) : nil
    core = SchedulerCore(servable, name: name, options: options, statistics: statistics)
  }

  // Nobody waits any more: whoever waits holds the scheduler.
  deinit { core.close() }

  /// Waits for the answer. Cancelling the task takes a request that waits out of the queue.
  /// - Throws: ``ServingError``: `invalidArgument` for inputs that the signature does not take and outputs that it does not give;
  ///   `unavailable`, with a hint when to come back, if too much waits; `deadlineExceeded`; `cancelled`; whatever the model says.
  public func infer(_ request: InferenceRequest) async throws(ServingError) -> InferenceResponse {
    let arrived = ContinuousClock.now
    do throws(ServingError) {
      let response = try await answer(request, arrived)
      statistics.succeeded(response.timings, total: .now - arrived, now: wallMilliseconds())
      return response
    } catch {
      statistics.failed(error.code, total: .now - arrived)
      throw error
    }
  }

  /// Ends when everything that was taken has been answered and the threads have ended. New requests are refused from now on.
  public func drain() async { await core.drain() }

  /// Sizes that batches of a signature are likely to have, the smallest first: what a warm-up should run. Empty if requests to it
  /// are not joined, or there is no such signature.
  /// - Parameter signature: nil for the default one.
  public func batchSizes(signature: String? = nil) -> [Int] { Self.batchSizes(of: servable, signature: signature, options) }

  /// The same, of a model that has no scheduler yet.
  public static func batchSizes(of servable: any Servable, signature: String? = nil, _ options: SchedulingOptions) -> [Int] {
    guard let batching = options.batching, let name = signature ?? servable.defaultSignature,
      let signature = servable.signatures[name]
    else { return [] }
    let layout = SignatureLayout(name, signature, number: 0)
    guard layout.batchAxis != nil else { return [] }
    let sizes = BatchSizes(batching, bounds: layout.batchBounds, isLarge: SchedulerCore.isLarge(servable))
    if !sizes.ladder.isEmpty { return sizes.ladder }
    return Set(sizes.preferred.map(sizes.padded) + [max(1, layout.batchBounds.lowerBound), sizes.most]).sorted()
  }

  private func answer(
    _ request: InferenceRequest, _ arrived: ContinuousClock.Instant
  ) async throws(ServingError) -> InferenceResponse {
    let layout = try layout(request.signature)
    let signature = layout.signature
    let sizes = try openSizes(request.inputs, of: signature)
    if let wanted = request.outputs { try check(outputs: wanted, of: signature) }

    guard let cache else {
      let answer = try await compute(layout, request, sizes, arrived)
      return response(answer.outputs, answer.timings, request, signature)
    }
    let inputs = signature.inputs.compactMap { request.inputs[$0.name] }
    let key = ResponseCache.Key(layout.number, inputs)
    // A request with a deadline or a priority of its own does not depend on another one's.
    let shares = request.deadline == nil && request.priority == nil
    while true {
      switch cache.look(key, inputs, shares: shares) {
      case .found(let candidate):
        guard ResponseCache.areEqual(candidate.inputs, inputs) else { break }
        var timings = InferenceTimings()
        timings.isCacheHit = true
        return response(candidate.outputs, timings, request, signature)
      case .inFlight(let flight):
        guard ResponseCache.areEqual(flight.inputs, inputs) else { break }
        if let outputs = try await cache.wait(for: flight) {
          var timings = InferenceTimings()
          timings.isCacheHit = true
          timings.queue = .now - arrived
          return response(outputs, timings, request, signature)
        }
        // The other request came to nothing, such as by its client leaving: that says nothing about this one.
        continue
      case .missing(let flight):
        statistics.update { $0.cacheMiss.add(.now - arrived) }
        return try await computed(layout, request, sizes, arrived, cache, key, inputs, flight)
      }
      // Other inputs with the same hash.
      statistics.update { $0.cacheMiss.add(.now - arrived) }
      return try await computed(layout, request, sizes, arrived, cache, key, inputs, nil)
    }
  }

  /// An answer that is kept in the cache, and given to those that wait for it.
  private func computed(
    _ layout: SignatureLayout, _ request: InferenceRequest, _ sizes: [Int], _ arrived: ContinuousClock.Instant,
    _ cache: SharedCache, _ key: ResponseCache.Key, _ inputs: [Tensor], _ flight: SharedCache.Flight?
  ) async throws(ServingError) -> InferenceResponse {
    do throws(ServingError) {
      let answer = try await compute(layout, request, sizes, arrived)
      cache.insert(key, inputs.map(compact), answer.outputs.map(compact), flight)
      return response(answer.outputs, answer.timings, request, layout.signature)
    } catch {
      if let flight { cache.end(flight) }
      throw error
    }
  }

  private func compute(
    _ layout: SignatureLayout, _ request: InferenceRequest, _ sizes: [Int], _ arrived: ContinuousClock.Instant
  ) async throws(ServingError) -> Answer {
    let bytes = request.inputs.values.reduce(0) { $0 + $1.count * $1.elementType.byteSize }
    let waiting = WaitingRequest(layout, request, sizes: sizes, byteCount: bytes, arrived: arrived)
    let outcome = await withTaskCancellationHandler {
      await withCheckedContinuation { core.submit(waiting, $0) }
    } onCancel: {
      core.cancel(waiting)
    }
    return rejoined(try outcome.get(), layout.signature)
  }

  private func layout(_ name: String?) throws(ServingError) -> SignatureLayout {
    if let name = name ?? defaultLayout, let layout = layouts[name] { return layout }
    let known = layouts.keys.sorted().joined(separator: ", ")
    guard let name else {
      throw ServingError(.invalidArgument, "the model has several signatures, so a request must name one: \(known)")
    }
    throw ServingError(.invalidArgument, "there is no signature '\(FormatError.excerpt(name))'; there are \(known)")
  }

  private func response(
    _ outputs: [Tensor], _ timings: InferenceTimings, _ request: InferenceRequest, _ signature: Signature
  ) -> InferenceResponse {
    var named: [(name: String, tensor: Tensor)] = []
    named.reserveCapacity(outputs.count)
    for (output, tensor) in zip(signature.outputs, outputs) where request.outputs?.contains(output.name) ?? true {
      named.append((output.name, tensor))
    }
    return InferenceResponse(outputs: named, timings: timings)
  }
}
