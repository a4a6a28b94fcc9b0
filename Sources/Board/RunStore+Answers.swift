import ApusFormats

// The answers of the programming interface: a function for each path below /api.

extension RunStore {
  private func selected(_ query: BoardQuery) throws(BoardQuery.Mistake) -> [Run] {
    let chosen = try query.runs()
    return runs.filter { chosen?.contains($0.id) ?? true }.sorted { Self.inOrder($0.name, $1.name) }
  }

  /// A number, as text where JSON has none for it.
  private static func number(_ value: Double) -> JSONValue {
    if value.isFinite { return .number(value) }
    return .string(value.isNaN ? "NaN" : value > 0 ? "Infinity" : "-Infinity")
  }

  /// A float32 in the fewest digits that say which one it is.
  private static func number(_ value: Float) -> JSONValue {
    guard value.isFinite, let short = Double(String(describing: value)) else { return number(Double(value)) }
    return .number(short)
  }

  /// Runs and tags, with how much there is of each.
  func state() -> JSONValue {
    func tags(_ counts: (Run) -> [(String, Int)]) -> JSONValue {
      var result: [String: JSONObject] = [:]
      for run in runs { for (tag, count) in counts(run) { result[tag, default: [:]][String(run.id)] = .integer(count) } }
      var object = JSONObject()
      for (tag, counts) in result.sorted(by: { Self.inOrder($0.key, $1.key) }) { object[tag] = .object(counts) }
      return .object(object)
    }
    let list = runs.sorted { Self.inOrder($0.name, $1.name) }.map { run -> JSONValue in
      .object([
        "id": .integer(run.id), "name": .string(run.name), "files": .integer(run.fileCount), "lastStep": .integer(run.lastStep),
        "start": run.firstTime.map { .number($0) } ?? .null, "end": run.lastTime.map { .number($0) } ?? .null,
        "status": run.status.map { .string($0) } ?? .null,
        "problems": .array(run.problems.values.sorted().map { .string($0) }),
      ])
    }
    return .object([
      "folder": .string(folder), "version": .integer(version), "loading": .bool(isLoading), "runs": .array(list),
      "scalars": tags { $0.scalars.map { ($0.key, $0.value.count) } },
      "histograms": tags { $0.histograms.map { ($0.key, $0.value.count) } },
      "images": tags { $0.images.map { ($0.key, $0.value.items.count) } },
      "sounds": tags { $0.sounds.map { ($0.key, $0.value.items.count) } },
      "texts": tags { $0.texts.map { ($0.key, $0.value.items.count) } },
      "hyperparameters": .integer(runs.count { !$0.parameters.isEmpty }),
    ])
  }

  /// `tag`, `runs`, `points` (at most), `smoothing`: [step, time, value, smoothed value] of each run that has the tag.
  func scalars(_ query: BoardQuery) throws(BoardQuery.Mistake) -> JSONValue {
    let tag = try query.text("tag")
    let points = try query.integer("points", 2...20_000, default: 1000)
    let smoothing = try query.number("smoothing", 0..<1, default: 0)
    var series: [JSONValue] = []
    for run in try selected(query) {
      guard let values = run.scalars[tag] else { continue }
      let rows = values.sampled(points, smoothing: smoothing).map { point, smooth -> JSONValue in
        .array([.integer(point.step), .number(point.wallTime), Self.number(point.value), Self.number(Float(smooth))])
      }
      series.append(.object(["run": .integer(run.id), "count": .integer(values.count), "points": .array(rows)]))
    }
    return .object(["tag": .string(tag), "version": .integer(version), "series": .array(series)])
  }

  /// `tag`, `runs`, `limit`: [step, time, [[from, to, count] …]] of each run that has the tag.
  func histograms(_ query: BoardQuery) throws(BoardQuery.Mistake) -> JSONValue {
    let tag = try query.text("tag")
    let limit = try query.integer("limit", 1...500, default: 40)
    var series: [JSONValue] = []
    for run in try selected(query) {
      guard let values = run.histograms[tag] else { continue }
      let rows = values.sampled(limit).map { item -> JSONValue in
        let buckets = item.content.buckets.map {
          JSONValue.array([Self.number($0.lower), Self.number($0.upper), Self.number($0.count)])
        }
        return .array([.integer(item.step), .number(item.wallTime), .array(buckets)])
      }
      series.append(.object(["run": .integer(run.id), "count": .integer(values.count), "steps": .array(rows)]))
    }
    return .object(["tag": .string(tag), "version": .integer(version), "series": .array(series)])
  }

  /// `tag`, `runs`, `offset`, `limit`: where pictures (or sounds) are; `index` is what `/api/image` takes. The latest first.
  func blobs(_ query: BoardQuery, sounds: Bool) throws(BoardQuery.Mistake) -> JSONValue {
    let tag = try query.text("tag")
    let offset = try query.integer("offset", 0...Int.max, default: 0)
    let limit = try query.integer("limit", 1...1000, default: 100)
    var series: [JSONValue] = []
    for run in try selected(query) {
      guard let values = sounds ? run.sounds[tag] : run.images[tag] else { continue }
      let items = values.items.enumerated().reversed().dropFirst(offset).prefix(limit).map { index, item -> JSONValue in
        .object([
          "index": .integer(index), "step": .integer(item.step), "time": .number(item.wallTime),
          "width": .integer(item.content.width), "height": .integer(item.content.height),
        ])
      }
      series.append(.object(["run": .integer(run.id), "count": .integer(values.items.count), "items": .array(Array(items))]))
    }
    return .object(["tag": .string(tag), "version": .integer(version), "series": .array(series)])
  }

  /// `tag`, `runs`, `offset`, `limit`: texts, the latest first.
  func texts(_ query: BoardQuery) throws(BoardQuery.Mistake) -> JSONValue {
    let tag = try query.text("tag")
    let offset = try query.integer("offset", 0...Int.max, default: 0)
    let limit = try query.integer("limit", 1...100, default: 10)
    var series: [JSONValue] = []
    for run in try selected(query) {
      guard let values = run.texts[tag] else { continue }
      let items = values.items.reversed().dropFirst(offset).prefix(limit).map { item -> JSONValue in
        .object(["step": .integer(item.step), "time": .number(item.wallTime), "text": .string(item.content)])
      }
      series.append(.object(["run": .integer(run.id), "count": .integer(values.items.count), "items": .array(Array(items))]))
    }
    return .object(["tag": .string(tag), "version": .integer(version), "series": .array(series)])
  }

  /// A row for each run that has hyper-parameters, with the last value of each metric.
  func hyperparameters() -> JSONValue {
    let chosen = runs.filter { !$0.parameters.isEmpty }.sorted { Self.inOrder($0.name, $1.name) }
    let names = Set(chosen.flatMap(\.parameters.keys)).sorted()
    let metrics = Set(chosen.flatMap(\.metrics)).sorted()
    let rows = chosen.map { run -> JSONValue in
      var (values, results): (JSONObject, JSONObject) = ([:], [:])
      for (name, value) in run.parameters.sorted(by: { $0.key < $1.key }) {
        switch value {
        case .number(let value): values[name] = Self.number(value)
        case .text(let value): values[name] = .string(value)
        case .flag(let value): values[name] = .bool(value)
        }
      }
      for tag in metrics { if let last = run.scalars[tag]?.points.last { results[tag] = Self.number(last.value) } }
      return .object([
        "run": .integer(run.id), "status": run.status.map { .string($0) } ?? .null, "parameters": .object(values),
        "metrics": .object(results),
      ])
    }
    return .object([
      "version": .integer(version), "parameters": .array(names.map { .string($0) }),
      "metrics": .array(metrics.map { .string($0) }),
      "rows": .array(rows),
    ])
  }

  /// `run`, `tag`, `index`: the file of a picture or sound, from the event file.
  func blob(_ query: BoardQuery, sounds: Bool) throws(BoardQuery.Mistake) -> [UInt8] {
    let tag = try query.text("tag")
    let number = try query.integer("run", 0...Int.max, default: 0)
    let index = try query.integer("index", 0...Int.max, default: 0)
    let missing = BoardQuery.Mistake(isMissing: true, message: "there is no such \(sounds ? "sound" : "picture")")
    guard number < runs.count, let items = (sounds ? runs[number].sounds[tag] : runs[number].images[tag])?.items,
      index < items.count
    else { throw missing }
    let place = items[index].content
    let event: Event?
    do { event = try EventFileReader(place.path, offset: place.offset).next() } catch {
      throw BoardQuery.Mistake(isMissing: true, message: error.description)
    }
    guard case .summaries(let summaries) = event?.content, place.index < summaries.count else { throw missing }
    switch summaries[place.index].value {
    case .image(let image): if let file = image.files.first { return file } else { throw missing }
    case .audio(let audio): return audio.file
    case .scalar, .histogram, .text, .hyperparameters, .other: throw missing
    }
  }
}
