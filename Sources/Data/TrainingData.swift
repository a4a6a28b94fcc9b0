import ApusTensor

/// What one training step sees: inputs of the model, what its outputs should be, and how much each example counts.
public struct TrainingBatch: Sendable, TensorTree {
  /// One tensor [batch, …] for each input of the model.
  public var inputs: [Tensor]
  /// One tensor [batch, …] for each output of the model; none where there is only something to predict.
  public var targets: [Tensor]
  /// How much each example counts [batch], the same for every output; 1 if nil.
  public var sampleWeight: Tensor?

  public init(_ inputs: [Tensor], _ targets: [Tensor] = [], sampleWeight: Tensor? = nil) {
    (self.inputs, self.targets, self.sampleWeight) = (inputs, targets, sampleWeight)
  }

  /// The examples in it.
  public var count: Int { inputs.first?.shape.first ?? 0 }

  public mutating func visit(_ visitor: inout TensorVisitor) {
    visitor(&inputs)
    visitor(&targets)
    visitor(&sampleWeight)
  }

  /// A data set's batch: `(inputs, targets)`, `(inputs, targets, sample weights)`, inputs alone, and each of inputs and targets
  /// may be an array of tensors.
  /// - Throws: ``UnsupportedBatch``.
  public init<Batch>(_ batch: Batch) throws(UnsupportedBatch) {
    switch batch {
    case let (x, y) as (Tensor, Tensor): self.init([x], [y])
    case let batch as TrainingBatch: self = batch
    case let x as Tensor: self.init([x])
    case let (x, y, weight) as (Tensor, Tensor, Tensor): self.init([x], [y], sampleWeight: weight)
    case let (x, y) as ([Tensor], Tensor): self.init(x, [y])
    case let (x, y) as (Tensor, [Tensor]): self.init([x], y)
    case let (x, y) as ([Tensor], [Tensor]): self.init(x, y)
    case let (x, y, weight) as ([Tensor], [Tensor], Tensor): self.init(x, y, sampleWeight: weight)
    case let x as [Tensor]: self.init(x)
    default: throw UnsupportedBatch(type: "\(Batch.self)")
    }
  }
}

/// A data set's batches are of a type of which nobody knows which part is input and which is target.
public struct UnsupportedBatch: Error, Sendable, CustomStringConvertible {
  public let type: String
  public var description: String {
    "batches of type \(type) cannot be trained with; give (inputs, targets), (inputs, targets, sample weights) or a TrainingBatch"
  }
}

/// How batches are made of data that is not in batches yet; a ``DataLoader`` has its own answers.
public struct BatchRequest: Sendable {
  public var batchSize: Int
  public var shuffle: Bool
  public var dropLast: Bool
  public var seed: UInt64

  public init(batchSize: Int = 32, shuffle: Bool = false, dropLast: Bool = false, seed: UInt64 = 0) {
    (self.batchSize, self.shuffle, self.dropLast, self.seed) = (batchSize, shuffle, dropLast, seed)
  }
}

/// What a trainer takes: a ``DataLoader``, any ``Dataset``, or a ``BatchSequence``.
public protocol TrainingData {
  func batchSource(_ request: BatchRequest) -> any BatchSource
}

/// Batches that come in passes over the data, each of which can begin at any batch.
public protocol BatchSource: AnyObject {
  /// The batches in a pass; nil if nobody knows before they have come.
  var batchCount: Int? { get }
  /// The number of the next pass.
  var pass: Int { get set }
  /// Where there are examples but no batch, because one is larger than all of them and short ones are left out.
  var lackingBatch: (batchSize: Int, examples: Int)? { get }
  /// What must be the same where a run goes on from a checkpoint: sizes, seed.
  var signature: String { get }
  /// The batches of a pass from this one on; nil after the last.
  func batches(pass: Int, from batch: Int) -> () throws -> TrainingBatch?
}

extension BatchSource {
  public var lackingBatch: (batchSize: Int, examples: Int)? { nil }
}

extension Dataset {
  public func batchSource(_ request: BatchRequest) -> any BatchSource {
    DataLoader(
      self, batchSize: request.batchSize, shuffle: request.shuffle, dropLast: request.dropLast, workers: 1, seed: request.seed)
  }
}

extension DataLoader: TrainingData, BatchSource {
  public func batchSource(_ request: BatchRequest) -> any BatchSource { self }

  public var batchCount: Int? { count }

  public var pass: Int {
    get { epoch }
    set { epoch = newValue }
  }

  public var lackingBatch: (batchSize: Int, examples: Int)? {
    count == 0 && dataset.count > 0 ? (batchSize, dataset.count) : nil
  }

  public var signature: String {
    "\(dataset.count) examples, batches of \(batchSize)\(dropLast ? " without the last short one" : ""), "
      + (shuffle ? "shuffled by seed \(seed)" : "in order")
  }

  public func batches(pass: Int, from batch: Int) -> () throws -> TrainingBatch? {
    let next = batches(epoch: pass, from: batch)
    return { try next().map { try TrainingBatch($0) } }
  }
}

/// Batches that a closure makes for each pass, such as a generator's; where they end is known when they end.
public final class BatchSequence: TrainingData, BatchSource {
  private let make: (Int) -> () throws -> TrainingBatch?
  public let batchCount: Int?
  public var pass = 0

  /// - Parameters:
  ///   - count: the batches in a pass, if known.
  ///   - make: the batches of a pass of this number; the same ones each time it is asked for the same pass.
  public init<S: Sequence>(count: Int? = nil, _ make: @escaping (_ pass: Int) -> S) {
    batchCount = count
    self.make = { pass in
      var iterator = make(pass).makeIterator()
      return { try iterator.next().map { try TrainingBatch($0) } }
    }
  }

  public func batchSource(_ request: BatchRequest) -> any BatchSource { self }
  public var signature: String { batchCount.map { "\($0) batches of a sequence" } ?? "a sequence" }

  public func batches(pass: Int, from batch: Int) -> () throws -> TrainingBatch? {
    let next = make(pass)
    var skipped = 0
    return {
      while skipped < batch, try next() != nil { skipped += 1 }
      return try next()
    }
  }
}
