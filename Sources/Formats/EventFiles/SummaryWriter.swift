import ApusTensor

/// Writes what happens in a run to an event file that TensorBoard and `apus board` show.
///
/// ```swift
/// let writer = try SummaryWriter("runs/first")
/// for (step, (x, y)) in loader.enumerated() {
///   writer.add(scalar: "loss/train", optimizer.step(minimizing: crossEntropy(model(x), y)), step: step)
/// }
/// writer.add(histogram: "head/weight", model.head.weight, step: 100)
/// writer.add(hyperparameters: ["rate": 0.1, "optimizer": "Adam"], metrics: ["accuracy": 0.97])
/// try writer.close()
/// ```
/// The names and their order are those of PyTorch's `SummaryWriter`. Values are taken at once and written by a task of their own when
/// ten are waiting or the oldest waits for two minutes, at ``flush()``, at ``close()``, when the writer goes, and at the end of the
/// process. A process that is killed loses what waits; the file ends with a whole record, or one that readers see is cut off.
/// Any number of tasks may use a writer.
public final class SummaryWriter: Sendable {
  private struct State {
    var isClosed = false
    var hyperparametersBegan = false
  }

  /// The folder of the run, by whose name viewers call it.
  public let folder: String
  /// The event file.
  public var path: String { file.path }
  private let file: EventFileWriter
  private let state = Lock(State())

  /// Begins a new event file in a folder, which is made if it is not there.
  /// - Parameters:
  ///   - suffix: added to the file's name.
  ///   - queueSize: so many events wait before they are written.
  ///   - flushSeconds: so long an event waits at most.
  public init(_ folder: String, suffix: String = "", queueSize: Int = 10, flushSeconds: Double = 120) throws(FormatError) {
    self.folder = folder
    file = try EventFileWriter(folder: folder, suffix: suffix, queueSize: queueSize, flushSeconds: flushSeconds)
  }

  deinit { try? close() }

  /// One number, such as a loss. Event files hold it as float32.
  public func add(scalar tag: String, _ value: some TensorScalar, step: Int, wallTime: Double? = nil) {
    let number: Float =
      switch value.tensorScalar {
      case .double(let value): Float(value)
      case .int(let value): Float(value)
      case .bool(let value): value ? 1 : 0
      }
    add(EventSummary(tag: tag, .scalar(number)), step, wallTime)
  }

  /// The only element of a tensor.
  public func add(scalar tag: String, _ value: Tensor, step: Int, wallTime: Double? = nil) {
    guard value.count == 1 else { stop("add(scalar:): '\(tag)' is of shape \(value.shape), not one number") }
    add(scalar: tag, value.item(as: Double.self), step: step, wallTime: wallTime)
  }

  /// Several numbers under one heading: the tags are `tag/name`.
  public func add(scalars tag: String, _ values: [String: Double], step: Int, wallTime: Double? = nil) {
    let summaries = values.sorted { $0.key < $1.key }.map { EventSummary(tag: tag + "/" + $0.key, .scalar(Float($0.value))) }
    add(summaries, step, wallTime)
  }

  /// How a tensor's elements are distributed; those that are not finite are left out.
  public func add(histogram tag: String, _ values: Tensor, step: Int, buckets: Int = 30, wallTime: Double? = nil) {
    add(EventSummary(tag: tag, .histogram(Histogram(values, buckets: buckets))), step, wallTime)
  }

  /// A picture: [channels, height, width] or [height, width], or if `channelsLast` [height, width, channels]. uint8, or floats from
  /// 0 to 1. One to four channels: grey, grey and alpha, red-green-blue, red-green-blue and alpha.
  public func add(image tag: String, _ image: Tensor, step: Int, channelsLast: Bool = false, wallTime: Double? = nil) {
    let file: [UInt8]
    do { file = try PNG.encode(image, channelsLast: channelsLast) } catch { stop("add(image:): '\(tag)': \(error.message)") }
    let shape = channelsLast ? image.shape.prefix(2) : image.shape.suffix(2)
    add(EventSummary(tag: tag, .image(.init(width: shape.last!, height: shape.first!, files: [file]))), step, wallTime)
  }

  /// Pictures [count, channels, height, width] side by side in one, as nearly square as fits.
  public func add(images tag: String, _ images: Tensor, step: Int, wallTime: Double? = nil) {
    guard images.rank == 4, images.shape[0] > 0 else {
      stop("add(images:): '\(tag)' is of shape \(images.shape), not [count, channels, height, width]")
    }
    add(image: tag, images.grid(), step: step, wallTime: wallTime)
  }

  /// Words; viewers take them for Markdown.
  public func add(text tag: String, _ text: String, step: Int = 0, wallTime: Double? = nil) {
    add(EventSummary(tag: tag, .text([text]), plugin: "text"), step, wallTime)
  }

  /// Sound [samples] or [channels, samples] from -1 to 1, as 16-bit WAV.
  public func add(audio tag: String, _ samples: Tensor, sampleRate: Int = 44_100, step: Int, wallTime: Double? = nil) {
    guard (1...2).contains(samples.rank), samples.elementType.isFloatingPoint, sampleRate > 0 else {
      stop("add(audio:): '\(tag)' is of \(samples.type), not floats [samples] or [channels, samples]")
    }
    let channels = samples.rank == 2 ? samples.shape[0] : 1
    let frames = samples.shape[samples.rank - 1]
    let file = wave(samples.rank == 2 ? samples.T.floats : samples.floats, channels: channels, sampleRate: sampleRate)
    let audio = EventSummary.Audio(sampleRate: Float(sampleRate), channels: channels, frames: frames, file: file)
    add(EventSummary(tag: tag, .audio(audio)), step, wallTime)
  }

  /// A program, for the graph view. Dots in names of weights become groups, so that a layer is a box.
  public func add(graph: Graph, wallTime: Double? = nil) { add(graph: graph, weights: [:], wallTime: wallTime) }

  /// A program in which constants of these names are weights.
  package func add(graph: Graph, weights: [Graph.Value: String], wallTime: Double? = nil) {
    add(Event(wallTime: wallTime ?? now(), .graph(graph.tensorFlowGraph(weights: weights))))
  }

  /// What distinguishes this run, and the metrics it is judged by: numbers here, or the tags of scalars added otherwise.
  public func add(hyperparameters: [String: Hyperparameter], metrics: [String: Double] = [:], step: Int = 0) {
    add(hyperparameters: hyperparameters, metricTags: metrics.keys.sorted(), step: step)
    add(metrics.sorted { $0.key < $1.key }.map { EventSummary(tag: $0.key, .scalar(Float($0.value))) }, step, nil)
  }

  /// What distinguishes this run, and the tags of the scalars it is judged by.
  public func add(hyperparameters: [String: Hyperparameter], metricTags: [String], step: Int = 0) {
    let time = now()
    let records: [HyperparameterRecord] = [
      .experiment(parameters: hyperparameters, metrics: metricTags),
      .start(parameters: hyperparameters, group: "", time: time),
    ]
    state.withLock { $0.hyperparametersBegan = true }
    for record in records { add(EventSummary(tag: record.tag, .hyperparameters(record), plugin: "hparams"), step, time) }
  }

  /// Writes what waits.
  /// - Throws: `FormatError`, for the first thing that could not be written since the writer began: nothing is written after that.
  public func flush() throws(FormatError) { try file.flush() }

  /// Writes what waits and ends the file. Nothing can be added afterwards; closing again does nothing.
  /// - Parameter status: how the run ended, for the table of hyper-parameters.
  public func close(_ status: HyperparameterRecord.EndStatus = .success) throws(FormatError) {
    let (isFirst, needsEnd) = state.withLock { state in
      defer { state.isClosed = true }
      return (!state.isClosed, !state.isClosed && state.hyperparametersBegan)
    }
    guard isFirst else { return }
    if needsEnd {
      let record = HyperparameterRecord.end(status, time: now())
      file.add(Event(wallTime: now(), .summaries([EventSummary(tag: record.tag, .hyperparameters(record), plugin: "hparams")])))
    }
    try file.close()
  }

  private func add(_ summary: EventSummary, _ step: Int, _ wallTime: Double?) { add([summary], step, wallTime) }

  private func add(_ summaries: [EventSummary], _ step: Int, _ wallTime: Double?) {
    guard !summaries.isEmpty else { return }
    add(Event(wallTime: wallTime ?? now(), step: step, .summaries(summaries)))
  }

  private func add(_ event: Event) {
    if state.withLock({ $0.isClosed }) { stop("SummaryWriter: something is added after close()") }
    file.add(event)
  }
}

extension Histogram {
  /// The distribution of a tensor's elements over intervals of one width; those that are not finite are left out.
  public init(_ tensor: Tensor, buckets: Int = 30) {
    guard buckets > 0 else { stop("Histogram: the number of buckets \(buckets) is not positive") }
    var values = tensor.detached().flattened().converted(to: .float64)
    let finite = isFinite(values)
    if !finite.all().item(as: Bool.self) { values = values[finite] }
    self.init(buckets: [], minimum: 0, maximum: 0, sum: 0, sumOfSquares: 0)
    guard values.count > 0 else { return }
    (minimum, maximum) = (values.min().item(as: Double.self), values.max().item(as: Double.self))
    (sum, sumOfSquares) = (values.sum().item(as: Double.self), (values * values).sum().item(as: Double.self))
    if minimum == maximum {
      self.buckets = [Bucket(minimum, maximum, count: Double(values.count))]
      return
    }
    // The width of ±1e308 is beyond a double: a quarter of it is not.
    let scale = (maximum - minimum).isFinite ? 1 : 0.25
    let (counts, edges) = (scale == 1 ? values : values * scale).histogram(bins: buckets)
    let (numbers, ends) = (counts.elements(as: Double.self), edges.elements(as: Double.self).map { $0 / scale })
    self.buckets = numbers.indices.map { Bucket(ends[$0], ends[$0 + 1], count: numbers[$0]) }
  }
}

extension Tensor {
  /// Pictures [count, channels, height, width] as one [channels, rows · height, columns · width]; places without one are dark.
  fileprivate func grid() -> Tensor {
    let (count, channels, height, width) = (shape[0], shape[1], shape[2], shape[3])
    var columns = 1
    while columns * columns < count { columns += 1 }
    let rows = (count + columns - 1) / columns
    let filled = padded([(0, rows * columns - count), (0, 0), (0, 0), (0, 0)])
    return filled.reshaped([rows, columns, channels, height, width]).transposed([2, 0, 3, 1, 4])
      .reshaped([channels, rows * height, columns * width])
  }
}

/// A WAV file of 16-bit samples, those of a moment together.
private func wave(_ samples: [Float], channels: Int, sampleRate: Int) -> [UInt8] {
  func little(_ value: Int, _ bytes: Int) -> [UInt8] { (0..<bytes).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }
  let size = samples.count * 2
  var file = Array("RIFF".utf8) + little(36 + size, 4) + Array("WAVEfmt ".utf8) + little(16, 4)
  file += little(1, 2) + little(channels, 2) + little(sampleRate, 4) + little(sampleRate * channels * 2, 4)
  file += little(channels * 2, 2) + little(16, 2) + Array("data".utf8) + little(size, 4)
  for sample in samples {
    let value = sample.isNaN ? 0 : Int((min(max(sample, -1), 1) * 32_767).rounded())
    file += little(value, 2)
  }
  return file
}
