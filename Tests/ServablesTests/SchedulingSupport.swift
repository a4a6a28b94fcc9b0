import Apus
import ApusServables
import class ApusServables.Scheduler
import Dispatch
import Synchronization
import Testing

/// A model that a test holds up, and that notes what it was run on: y = 2x + 1, and the sum of each row.
final class ControlledModel: Servable {
  let signatures: [String: Signature]
  var defaultSignature: String? { signatures.count == 1 ? signatures.keys.first : nil }
  var byteCount: Int { 0 }
  var platform: String { "test" }
  var classLabels: [String]? { nil }

  private struct State {
    var shapes: [Shape] = []
    var firsts: [Float] = []
    var running = 0
    var mostRunning = 0
    var held: Float?
  }
  private let state = Mutex(State())
  private let gate = DispatchSemaphore(value: 0)
  private let isOpen = Atomic<Bool>(true)
  let work: Duration
  let onRelease: (@Sendable () -> Void)?

  init(
    _ signatures: [String: Signature] = ["serve": ControlledModel.rows()], work: Duration = .zero,
    onRelease: (@Sendable () -> Void)? = nil
  ) {
    (self.signatures, self.work, self.onRelease) = (signatures, work, onRelease)
  }

  deinit { onRelease?() }

  /// x: float32[batch, width] → y: float32[batch, width].
  static func rows(_ sizes: ClosedRange<Int> = 1...1_000, width: Dimension = 4) -> Signature {
    var open = [Signature.OpenDimension(name: "batch", sizes: sizes)]
    if case .open(let name, let bounds) = width { open.append(.init(name: name, sizes: bounds)) }
    return Signature(
      inputs: [.init(name: "x", spec: .float32([.open("batch", sizes), width]))],
      outputs: [.init(name: "y", elementType: .float32, dimensions: [.open("batch", sizes), width])], openDimensions: open)
  }

  /// Sizes of the first input at each run, in order.
  var shapes: [Shape] { state.withLock { $0.shapes } }
  var batches: [Int] { shapes.map { $0.count > 0 ? $0[0] : 1 } }
  /// The first element of each run.
  var firsts: [Float] { state.withLock { $0.firsts } }
  var mostRunning: Int { state.withLock { $0.mostRunning } }

  /// Each run waits for ``release()`` from now on, or those alone that begin with this number.
  func hold(_ value: Float? = nil) {
    state.withLock { $0.held = value }
    isOpen.store(false, ordering: .sequentiallyConsistent)
  }

  func release() { isOpen.store(true, ordering: .sequentiallyConsistent) }

  func run(_ inputs: [String: Tensor], signature: String?) throws(ServingError) -> [String: Tensor] {
    guard let x = inputs["x"] else { throw ServingError(.internalError, "no x") }
    let values = x.floats
    let held = state.withLock {
      $0.shapes.append(x.shape)
      $0.firsts.append(values.first ?? 0)
      $0.running += 1
      $0.mostRunning = max($0.mostRunning, $0.running)
      return $0.held
    }
    defer { state.withLock { $0.running -= 1 } }
    if work > .zero {
      let end = ContinuousClock.now + work
      while ContinuousClock.now < end {}
    }
    while !isOpen.load(ordering: .sequentiallyConsistent), held == nil || held == values.first {
      _ = gate.wait(timeout: .now() + .milliseconds(1))
    }
    if values.contains(where: { $0 < 0 }) { throw ServingError(.invalidArgument, "the input 'x' has a negative number") }
    return ["y": x * 2 + 1]
  }
}

/// Waits until something is so; for at most half a minute, so that a test that fails also ends.
func eventually(_ what: Comment, sourceLocation: SourceLocation = #_sourceLocation, _ condition: () -> Bool) async {
  let end = ContinuousClock.now + .seconds(30)
  while !condition() {
    if ContinuousClock.now > end {
      Issue.record(what, sourceLocation: sourceLocation)
      return
    }
    try? await Task.sleep(for: .milliseconds(1))
  }
}

/// Rows of four numbers: `value` and the next ones.
func someRows(_ value: Float, count: Int = 1, width: Int = 4) -> Tensor {
  Tensor((0..<count * width).map { value + Float($0) }, shape: [count, width])
}

func requestOf(_ x: Tensor, priority: Int? = nil, deadline: ContinuousClock.Instant? = nil) -> InferenceRequest {
  InferenceRequest(inputs: ["x": x], priority: priority, deadline: deadline)
}

typealias Answered = Result<InferenceResponse, ServingError>

extension Scheduler {
  /// The answer or the error of a request that runs meanwhile.
  func start(_ request: InferenceRequest) -> Task<Answered, Never> {
    Task {
      do throws(ServingError) { return .success(try await infer(request)) } catch { return .failure(error) }
    }
  }

  /// Sends one after the other, each when the one before it is in the queue; `first` are in it already.
  func queue(_ requests: [InferenceRequest], after first: Int = 0) async -> [Task<Answered, Never>] {
    var tasks: [Task<Answered, Never>] = []
    for request in requests {
      tasks.append(start(request))
      let count = first + tasks.count
      await eventually("the request is in the queue") { statistics.snapshot.pending == count }
    }
    return tasks
  }
}

extension Answered {
  var output: [Float]? { (try? get())?.outputs.first?.tensor.floats }
  var code: ServingError.Code? {
    if case .failure(let error) = self { error.code } else { nil }
  }
  var message: String {
    if case .failure(let error) = self { error.message } else { "" }
  }
}

/// What the model says of these rows.
func expected(_ x: Tensor) -> [Float] { x.floats.map { $0 * 2 + 1 } }

extension SchedulingOptions {
  static func batching(_ most: Int = 32, _ change: (inout Batching) -> Void = { _ in }) -> SchedulingOptions {
    var options = SchedulingOptions()
    var batching = Batching()
    batching.maxBatchSize = most
    batching.adaptsSizes = false
    change(&batching)
    options.batching = batching
    return options
  }
}

/// Counts.
final class Counter: Sendable {
  private let count = Atomic<Int>(0)
  var value: Int { count.load(ordering: .sequentiallyConsistent) }
  func add() { count.add(1, ordering: .sequentiallyConsistent) }
}
