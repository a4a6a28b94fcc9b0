import ApusData
import ApusNN
import ApusTensor

/// Inputs, targets and sample weights held as tensors, any number of each; their first dimensions count the examples.
public struct TrainingTensors: InMemoryDataset {
  public let inputs, targets: [Tensor]
  /// [examples].
  public let sampleWeight: Tensor?
  public let count: Int

  /// - Throws: ``TrainingError/batchMismatch(_:)`` where they have different numbers of examples.
  public init(_ inputs: [Tensor], _ targets: [Tensor] = [], sampleWeight: Tensor? = nil) throws {
    guard let count = inputs.first?.shape.first else { throw TrainingError.batchMismatch("there is no input, or it is a scalar") }
    for tensor in inputs + targets + [sampleWeight].compactMap({ $0 }) where tensor.shape.first != count {
      throw TrainingError.batchMismatch("the first input has \(count) examples, another tensor the shape \(tensor.shape)")
    }
    (self.inputs, self.targets, self.sampleWeight, self.count) = (inputs, targets, sampleWeight, count)
  }

  public func batch(_ indices: [Int]) -> TrainingBatch {
    withoutGradient {
      let at = Tensor(elements: indices)
      return TrainingBatch(
        inputs.map { $0.rows(at) }, targets.map { $0.rows(at) }, sampleWeight: sampleWeight.map { $0.rows(at) })
    }
  }

  /// The first examples, and this share of them at the end.
  /// - Throws: ``TrainingError`` where one of the two has none.
  public func split(last share: Double) throws -> (first: TrainingTensors, last: TrainingTensors) {
    guard share > 0 && share < 1 else { throw TrainingError.invalidArgument("validationSplit \(share) is not between 0 and 1") }
    let middle = Int(Double(count) * (1 - share))
    guard middle > 0 && middle < count else {
      throw TrainingError.emptyData("validationSplit \(share) of \(count) examples leaves nothing on one side")
    }
    func part(_ range: Range<Int>) throws -> TrainingTensors {
      try TrainingTensors(
        inputs.map { $0[range] }, targets.map { $0[range] }, sampleWeight: sampleWeight.map { $0[range] })
    }
    return (try part(0..<middle), try part(middle..<count))
  }
}

extension Trainer {
  /// Trains on tensors whose first dimension counts the examples, as ``fit(_:epochs:validation:callbacks:batchSize:shuffle:initialEpoch:stepsPerEpoch:validationSteps:validationBatchSize:validationFrequency:resume:verbose:)``.
  ///
  /// - Parameters:
  ///   - sampleWeight: how much each example counts [examples].
  ///   - validationSplit: the share of the examples, from the end and before they are shuffled, that is left out of training and
  ///     evaluated on.
  @discardableResult
  public nonisolated(nonsending) final func fit(
    _ x: Tensor, _ y: Tensor, batchSize: Int = 32, epochs: Int = 1, verbose: Verbosity = .automatic, callbacks: [Callback] = [],
    validationSplit: Double? = nil, validation: (any TrainingData)? = nil, shuffle: Bool = true, sampleWeight: Tensor? = nil,
    initialEpoch: Int = 0, stepsPerEpoch: Int? = nil, validationSteps: Int? = nil, validationBatchSize: Int? = nil,
    validationFrequency: Int = 1, resume: String? = nil
  ) async throws -> History {
    try await fit(
      [x], [y], batchSize: batchSize, epochs: epochs, verbose: verbose, callbacks: callbacks, validationSplit: validationSplit,
      validation: validation, shuffle: shuffle, sampleWeight: sampleWeight, initialEpoch: initialEpoch,
      stepsPerEpoch: stepsPerEpoch, validationSteps: validationSteps, validationBatchSize: validationBatchSize,
      validationFrequency: validationFrequency, resume: resume)
  }

  /// As above, for models of several inputs or outputs.
  @discardableResult
  public nonisolated(nonsending) final func fit(
    _ x: [Tensor], _ y: [Tensor], batchSize: Int = 32, epochs: Int = 1, verbose: Verbosity = .automatic,
    callbacks: [Callback] = [], validationSplit: Double? = nil, validation: (any TrainingData)? = nil, shuffle: Bool = true,
    sampleWeight: Tensor? = nil, initialEpoch: Int = 0, stepsPerEpoch: Int? = nil, validationSteps: Int? = nil,
    validationBatchSize: Int? = nil, validationFrequency: Int = 1, resume: String? = nil
  ) async throws -> History {
    var train = try TrainingTensors(x, y, sampleWeight: sampleWeight)
    var validation = validation
    if let validationSplit, validation == nil {
      let (first, last) = try train.split(last: validationSplit)
      train = first
      validation = last
    }
    return try await fit(
      train, epochs: epochs, validation: validation, callbacks: callbacks, batchSize: batchSize, shuffle: shuffle,
      initialEpoch: initialEpoch, stepsPerEpoch: stepsPerEpoch, validationSteps: validationSteps,
      validationBatchSize: validationBatchSize, validationFrequency: validationFrequency, resume: resume, verbose: verbose)
  }

  public nonisolated(nonsending) final func evaluate(
    _ x: Tensor, _ y: Tensor, batchSize: Int = 32, sampleWeight: Tensor? = nil, steps: Int? = nil, callbacks: [Callback] = [],
    verbose: Verbosity = .silent
  ) async throws -> Logs {
    try await evaluate(
      TrainingTensors([x], [y], sampleWeight: sampleWeight), batchSize: batchSize, steps: steps, callbacks: callbacks,
      verbose: verbose)
  }

  /// The model's only output for inputs [examples, …].
  public nonisolated(nonsending) final func predict(
    _ x: Tensor, batchSize: Int = 32, callbacks: [Callback] = [], verbose: Verbosity = .silent
  ) async throws -> Tensor {
    try await predict(TrainingTensors([x]), batchSize: batchSize, callbacks: callbacks, verbose: verbose)
  }
}
