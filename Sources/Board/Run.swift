import ApusFormats

/// Where a picture or sound lies: files stay on the disk until they are looked at.
struct BlobPlace: Sendable {
  var path: String
  /// The record's place in the file, and the value's among the record's.
  var offset, index: Int
  var width, height: Int
}

/// What is known of one run, that is of the event files in one folder.
struct Run: Sendable {
  let id: Int
  let name: String
  var scalars: [String: ScalarSeries] = [:]
  var histograms: [String: Samples<Histogram>] = [:]
  var images: [String: Samples<BlobPlace>] = [:]
  var sounds: [String: Samples<BlobPlace>] = [:]
  var texts: [String: Samples<String>] = [:]
  var parameters: [String: Hyperparameter] = [:]
  var metrics: [String] = []
  var status: String?
  var firstTime: Double?
  var lastTime: Double?
  var lastStep = 0
  /// What is wrong with its files, by path.
  var problems: [String: String] = [:]
  var fileCount = 0

  init(id: Int, name: String) { (self.id, self.name) = (id, name) }

  /// Longer texts are cut off.
  static let textLimit = 1 << 16

  /// Takes in an event.
  /// - Parameters:
  ///   - file: the number of the file among the run's.
  ///   - place: where the event's record lies.
  mutating func add(_ event: Event, file: Int, path: String, offset: Int) {
    guard event.wallTime.isFinite else { return }
    guard case .summaries(let summaries) = event.content else { return }
    firstTime = min(firstTime ?? event.wallTime, event.wallTime)
    lastTime = max(lastTime ?? event.wallTime, event.wallTime)
    lastStep = max(lastStep, event.step)
    for (index, summary) in summaries.enumerated() {
      let tag = summary.tag
      switch summary.value {
      case .scalar(let value):
        scalars[tag, default: ScalarSeries()]
          .append(ScalarSeries.Point(step: event.step, wallTime: event.wallTime, value: value), file: file)
      case .histogram(let histogram):
        histograms[tag, default: Samples(capacity: 500)]
          .append(.init(step: event.step, wallTime: event.wallTime, content: histogram), file: file)
      case .image(let image) where !image.files.isEmpty:
        let place = BlobPlace(path: path, offset: offset, index: index, width: image.width, height: image.height)
        images[tag, default: Samples(capacity: 1000)]
          .append(.init(step: event.step, wallTime: event.wallTime, content: place), file: file)
      case .audio:
        let place = BlobPlace(path: path, offset: offset, index: index, width: 0, height: 0)
        sounds[tag, default: Samples(capacity: 1000)]
          .append(.init(step: event.step, wallTime: event.wallTime, content: place), file: file)
      case .text(let parts):
        let text = String(parts.joined(separator: "\n\n").prefix(Self.textLimit))
        texts[tag, default: Samples(capacity: 500)]
          .append(.init(step: event.step, wallTime: event.wallTime, content: text), file: file)
      case .hyperparameters(.experiment(_, let metrics)): self.metrics = metrics
      case .hyperparameters(.start(let parameters, _, _)):
        self.parameters = parameters
        status = "running"
      case .hyperparameters(.end(let status, _)): self.status = "\(status)"
      case .image, .other: break
      }
    }
  }
}
