import ApusFormats
import ApusNN
import ApusTensor

/// Writes what TensorBoard and `apus board` show of a training: Keras's `TensorBoard`.
///
/// ```swift
/// try await trainer.fit(train, epochs: 5, validation: test, callbacks: [.tensorBoard("runs/first", histogramFrequency: 1)])
/// ```
/// The runs are `train` and `validation` in the folder. Tags are Keras's: `epoch_loss`, `epoch_accuracy`, `epoch_learning_rate`, and with
/// an update frequency `batch_loss` …; the step of the former is the epoch, of the latter the batch since training began.
public final class TensorBoard: Callback {
  /// When losses and metrics of batches are written.
  public enum UpdateFrequency: Sendable, Equatable, ExpressibleByIntegerLiteral {
    /// Only those of whole epochs.
    case epoch
    case batch
    /// After so many batches.
    case steps(Int)

    public init(integerLiteral value: Int) { self = .steps(value) }
  }

  public let folder: String
  private let histogramFrequency: Int
  private let writeGraph, writeImages, writeStepsPerSecond: Bool
  private let updateFrequency: UpdateFrequency
  private let hyperparameters: [String: Hyperparameter]
  private var train, validation: SummaryWriter?
  private var needsGraph = false
  private var epochBegin = (time: 0.0, step: 0)

  /// - Parameters:
  ///   - folder: where the runs are written; one for each training that is to be compared.
  ///   - histogramFrequency: after so many epochs the parameters' histograms are written; 0 for never.
  ///   - writeGraph: whether the model is drawn in the graph view.
  ///   - writeImages: whether parameters are written as pictures, along with the histograms.
  ///   - writeStepsPerSecond: whether the speed is written, with the epochs' values.
  ///   - hyperparameters: what distinguishes this training, for the table of hyper-parameters.
  public init(
    _ folder: String = "logs", histogramFrequency: Int = 0, writeGraph: Bool = true, writeImages: Bool = false,
    writeStepsPerSecond: Bool = false, updateFrequency: UpdateFrequency = .epoch, hyperparameters: [String: Hyperparameter] = [:]
  ) {
    guard histogramFrequency >= 0 else { stop("TensorBoard: the histogram frequency \(histogramFrequency) is negative") }
    if case .steps(let count) = updateFrequency, count <= 0 { stop("TensorBoard: the update frequency \(count) is not positive") }
    self.folder = folder
    (self.histogramFrequency, self.updateFrequency) = (histogramFrequency, updateFrequency)
    (self.writeGraph, self.writeImages, self.writeStepsPerSecond) = (writeGraph, writeImages, writeStepsPerSecond)
    self.hyperparameters = hyperparameters
  }

  public override var isLeftOutOfFastRuns: Bool { true }

  /// - Throws: `FormatError`, if the folder cannot be written.
  public override func onTrainBegin() throws {
    close(.unknown)
    let writer = try SummaryWriter(folder + "/train")
    train = writer
    needsGraph = writeGraph
    if !hyperparameters.isEmpty {
      let metrics = trainer.outputs.count == 1 ? trainer.metrics.map(\.name) : []
      writer.add(hyperparameters: hyperparameters, metricTags: (["loss"] + metrics).map { "epoch_" + $0 })
    }
  }

  public override func onEpochBegin(_ epoch: Int) { beginMeasuring() }
  public override func onResume(epoch: Int, batch: Int) { beginMeasuring() }

  private func beginMeasuring() { epochBegin = (now(), trainer.position.step) }

  public override func onTrainBatchEnd(_ batch: Int, logs: BatchLogs) throws {
    if needsGraph {
      needsGraph = false
      drawGraph()
    }
    let step = trainer.position.step
    switch updateFrequency {
    case .epoch: return
    case .batch: break
    case .steps(let count): if step % count != 0 { return }
    }
    guard let train else { return }
    for (name, value) in logs.values.sorted(by: { $0.key < $1.key }) { train.add(scalar: "batch_" + name, value, step: step) }
  }

  public override func onEpochEnd(_ epoch: Int, logs: inout Logs) throws {
    guard let train else { return }
    for (name, value) in logs.sorted(by: { $0.key < $1.key }) {
      if name.hasPrefix("val_") {
        let writer = try validation ?? SummaryWriter(folder + "/validation")
        validation = writer
        writer.add(scalar: "epoch_" + name.dropFirst(4), value, step: epoch)
        writer.add(scalar: "evaluation_\(name.dropFirst(4))_vs_iterations", value, step: trainer.position.step)
      } else {
        train.add(scalar: "epoch_" + name, value, step: epoch)
      }
    }
    train.add(scalar: "epoch_learning_rate", trainer.optimizer.learningRate, step: epoch)
    if writeStepsPerSecond {
      let seconds = now() - epochBegin.time
      let steps = Double(trainer.position.step - epochBegin.step)
      if seconds > 0 { train.add(scalar: "epoch_steps_per_second", steps / seconds, step: epoch) }
    }
    if histogramFrequency > 0, (epoch + 1) % histogramFrequency == 0 { writeParameters(train, epoch) }
    // What cannot be written is no reason to lose a training.
    for writer in [train, validation].compactMap({ $0 }) {
      do { try writer.flush() } catch {
        trainer.warn("TensorBoard: \(error.description); nothing more is written there")
        forget(writer)
      }
    }
  }

  public override func onTrainEnd(logs: Logs) { close(.success) }
  public override func onException(_ error: any Error) { close(error is CancellationError ? .unknown : .failure) }

  private func forget(_ writer: SummaryWriter) {
    if train === writer { train = nil }
    if validation === writer { validation = nil }
  }

  private func close(_ status: HyperparameterRecord.EndStatus) {
    for writer in [train, validation].compactMap({ $0 }) { try? writer.close(status) }
    (train, validation) = (nil, nil)
  }

  // MARK: Parameters

  private func writeParameters(_ writer: SummaryWriter, _ epoch: Int) {
    withoutGradient {
      for (name, variable) in trainer.model.namedVariables
      where variable.elementType.isFloatingPoint && variable.shape.elementCount > 0 {
        let tag = name.split(separator: ".").joined(separator: "/")
        writer.add(histogram: tag + "/histogram", variable.value, step: epoch)
        if writeImages, let image = Self.picture(variable.value) { writer.add(image: tag + "/image", image, step: epoch) }
      }
    }
  }

  /// A parameter as grey or coloured rectangles, its least value dark: a vector is a row, filters lie side by side.
  static func picture(_ value: Tensor) -> Tensor? {
    let sizes = Array(value.shape)
    guard value.count <= 1 << 22, (1...4).contains(sizes.count) else { return nil }
    let x = value.detached().converted(to: .float32)
    let (low, high) = (x.min(), x.max())
    let scaled = (x - low) / maximum(high - low, Tensor(1e-12))
    switch sizes.count {
    case 1: return scaled.reshaped([1, sizes[0]])
    // Long sides lie across.
    case 2: return sizes[0] > sizes[1] ? scaled.T : scaled
    case 3: return scaled.reshaped([sizes[0] * sizes[1], sizes[2]])
    default:
      // [out, in, height, width]: a row of pictures for each output.
      return scaled.transposed([0, 2, 1, 3]).reshaped([sizes[0] * sizes[2], sizes[1] * sizes[3]])
    }
  }

  // MARK: The graph

  /// Traces the model as it evaluates inputs like the first batch's.
  private func drawGraph() {
    guard let train else { return }
    let inputs = trainer.inputTypes.enumerated().map { i, type in
      (name: trainer.inputTypes.count == 1 ? "input" : "input\(i)", type: type)
    }
    let names = Dictionary(trainer.model.namedVariables.map { (ObjectIdentifier($0.variable), $0.name) }) { first, _ in first }
    do throws(ExportTrace.Failure) {
      let trace = try trainer.model.evaluating { () throws(ExportTrace.Failure) in
        try ExportTrace("model", inputs: inputs, names: names, statesAllowed: true) { arguments in
          let outputs = trainer.forward(inputs.compactMap { arguments[$0.name] })
          var results: [String: Tensor] = [:]
          for (i, output) in outputs.enumerated() { results[trainer.outputs.count == 1 ? "output" : "output\(i)"] = output }
          return results
        }
      }
      train.add(graph: trace.graph, weights: trace.weights.mapValues(\.name))
    } catch {
      trainer.warn("TensorBoard: the model cannot be drawn as a graph (\(error))")
    }
  }
}

extension Callback {
  /// ``TensorBoard``
  public static func tensorBoard(
    _ folder: String = "logs", histogramFrequency: Int = 0, writeGraph: Bool = true, writeImages: Bool = false,
    writeStepsPerSecond: Bool = false, updateFrequency: TensorBoard.UpdateFrequency = .epoch,
    hyperparameters: [String: Hyperparameter] = [:]
  ) -> Callback {
    TensorBoard(
      folder, histogramFrequency: histogramFrequency, writeGraph: writeGraph, writeImages: writeImages,
      writeStepsPerSecond: writeStepsPerSecond, updateFrequency: updateFrequency, hyperparameters: hyperparameters)
  }
}
