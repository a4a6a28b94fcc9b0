import ApusCPU
import Synchronization

/// A source of random numbers: a key and a counter (Philox4x32-10).
///
/// The same seed gives the same numbers on any machine, with any number of threads. Every draw moves the
/// counter; draws from one generator by several tasks are safe, their order is the tasks' own.
public final class Generator: Sendable {
  /// Where a generator stands: enough to go on from there in another process.
  public struct State: Sendable, Hashable {
    public var key: UInt64
    public var counter: UInt64
    public init(key: UInt64, counter: UInt64 = 0) {
      self.key = key
      self.counter = counter
    }
  }

  private let lock: Lock<State>

  public init(seed: UInt64) { lock = Lock(State(key: seed)) }

  /// What functions use that are not given a generator. Seed 0 at start, so that runs repeat.
  public static let `default` = Generator(seed: 0)

  /// What stands for the default generator while a checkpoint computes again, in that task alone.
  @TaskLocal private static var replay: Generator?

  private var source: Generator { self === Generator.default ? Generator.replay ?? self : self }

  public var state: State {
    get { source.lock.withLock { $0 } }
    set { source.lock.withLock { $0 = newValue } }
  }

  /// Starts over from a seed.
  public func seed(_ seed: UInt64) { state = State(key: seed) }

  /// What runs a function with the default generator where it stands now; its own state is not touched by that.
  static func replayPoint() -> (_ body: () -> Tensor) -> Tensor {
    if let trace = Trace.active?.root, !trace.isBody {
      let words = trace.words(of: Generator.default.source)
      return { trace.replaying(Generator.default.source, from: words, $0) }
    }
    let state = Generator.default.state
    return { body in
      let past = Generator(seed: state.key)
      past.state = state
      return $replay.withValue(past) { body() }
    }
  }

  /// The state now; moves on by one block.
  func step() -> State {
    lock.withLock { state in
      defer { state.counter &+= 4 }
      return state
    }
  }

  /// The state as a draw's operand, int64 [2].
  var stateTensor: Tensor {
    let now = source.state
    return Tensor([Int64(bitPattern: now.key), Int64(bitPattern: now.counter)], shape: [2])
  }

  /// Moves on as draws of so many words would.
  func advance(_ words: UInt64) { source.lock.withLock { $0.counter &+= words } }

  /// The state for one draw, as an operand; moves on by what the draw uses.
  func draw(_ type: ElementType, _ count: Int) -> Tensor {
    let words = CPU.randomWords(type, count)
    if let trace = Trace.active { return trace.draw(source, words: words) }
    let now = source.lock.withLock { state -> State in
      defer { state.counter &+= words }
      return state
    }
    return Tensor([Int64(bitPattern: now.key), Int64(bitPattern: now.counter)], shape: [2])
  }
}

/// Starts the default generator over from a seed.
public func seed(_ seed: UInt64) { Generator.default.seed(seed) }

extension Tensor {
  private static func random(_ kind: RandomParameters.Kind, _ shape: Shape, _ type: ElementType, _ generator: Generator) -> Tensor
  {
    apply(.random(RandomParameters(kind, shape, type)), generator.draw(type, shape.elementCount))
  }

  /// Uniform in [low, high).
  public static func uniform(
    _ shape: Shape, low: Double = 0, high: Double = 1, _ type: ElementType = .float32, generator: Generator = .default
  ) -> Tensor { random(.uniform(low: low, high: high), shape, type, generator) }

  /// Normally distributed.
  public static func normal(
    _ shape: Shape, mean: Double = 0, standardDeviation: Double = 1, _ type: ElementType = .float32,
    generator: Generator = .default
  ) -> Tensor { random(.normal(mean: mean, standardDeviation: standardDeviation), shape, type, generator) }

  /// Standard normal.
  public static func randn(_ shape: Shape, _ type: ElementType = .float32, generator: Generator = .default) -> Tensor {
    normal(shape, type, generator: generator)
  }

  /// Uniform in [0, 1).
  public static func rand(_ shape: Shape, _ type: ElementType = .float32, generator: Generator = .default) -> Tensor {
    uniform(shape, type, generator: generator)
  }

  /// Normal, but only values within low … high (by default two standard deviations).
  public static func truncatedNormal(
    _ shape: Shape, mean: Double = 0, standardDeviation: Double = 1, low: Double? = nil, high: Double? = nil,
    _ type: ElementType = .float32, generator: Generator = .default
  ) -> Tensor {
    let (low, high) = (low ?? mean - 2 * standardDeviation, high ?? mean + 2 * standardDeviation)
    return random(
      .truncatedNormal(mean: mean, standardDeviation: standardDeviation, low: low, high: high), shape, type, generator)
  }

  /// True with this probability.
  public static func bernoulli(_ shape: Shape, probability: Double = 0.5, generator: Generator = .default) -> Tensor {
    random(.bernoulli(probability: probability), shape, .bool, generator)
  }

  /// Integers of the range, equally likely.
  public static func integers(
    _ range: Range<Int>, _ shape: Shape, _ type: ElementType = .int64, generator: Generator = .default
  ) -> Tensor { random(.integers(low: range.lowerBound, high: range.upperBound), shape, type, generator) }

  /// 0, …, count − 1 in random order.
  public static func permutation(_ count: Int, generator: Generator = .default) -> Tensor {
    guard count >= 0 else { stop("permutation: the count \(count) is negative") }
    return random(.permutation, [count], .int64, generator)
  }

  /// Classes drawn with the given log-probabilities (up to a constant): logits […, classes] → int64 […].
  ///
  /// By the Gumbel-max trick: the largest of the logits with Gumbel noise added.
  public static func categorical(logits: Tensor, generator: Generator = .default) -> Tensor {
    guard logits.rank > 0, logits.elementType.isFloatingPoint else {
      stop("categorical: takes floating point logits […, classes], got \(logits.type)")
    }
    let u = uniform(logits.shape, .float64, generator: generator)
    let noise = -log(-log(u + 1e-300))
    return (logits.detached().converted(to: .float64) + noise).argMax(axis: -1)
  }
}
