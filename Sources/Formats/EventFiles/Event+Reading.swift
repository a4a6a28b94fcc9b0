// Reads the older forms, which Apus and PyTorch write, and tensors with plugins, which TensorFlow 2 and Keras write.

extension Event {
  /// Parses a serialized message.
  /// - Parameter base: where it begins in the file, for errors.
  package init(parsing bytes: UnsafeRawBufferPointer, file: String, base: Int = 0) throws(FormatError) {
    var reader = ProtobufReader(bytes, file: file, base: base)
    self.init(wallTime: 0, .other)
    while let (field, value) = try reader.next() {
      switch (field, value) {
      case (1, .fixed64): wallTime = value.double ?? 0
      case (2, .varint): step = value.int ?? 0
      case (3, .bytes(let bytes)): content = .version(String(decoding: bytes, as: UTF8.self))
      case (4, .bytes(let bytes)): content = .graph(Array(bytes))
      case (5, .bytes(let bytes)):
        var summaries: [EventSummary] = []
        var inner = ProtobufReader(bytes, file: file, base: base)
        while let (field, value) = try inner.next() {
          guard field == 1, let bytes = value.bytes else { continue }
          summaries.append(try EventSummary(parsing: bytes, file: file, base: base))
        }
        content = .summaries(summaries)
      default: break
      }
    }
  }
}

extension EventSummary {
  fileprivate init(parsing bytes: UnsafeRawBufferPointer, file: String, base: Int) throws(FormatError) {
    var reader = ProtobufReader(bytes, file: file, base: base)
    self.init(tag: "", .other)
    var tensor: UnsafeRawBufferPointer?
    var pluginContent: UnsafeRawBufferPointer?
    while let (field, value) = try reader.next() {
      switch (field, value) {
      case (1, .bytes): tag = value.string ?? ""
      case (2, .fixed32): self.value = .scalar(value.float ?? 0)
      case (4, .bytes(let bytes)): self.value = .image(try Image(parsing: bytes, file, base))
      case (5, .bytes(let bytes)): self.value = .histogram(try Histogram(parsing: bytes, file, base))
      case (6, .bytes(let bytes)): self.value = .audio(try Audio(parsing: bytes, file, base))
      case (8, .bytes(let bytes)): tensor = bytes
      case (9, .bytes(let bytes)):
        var metadata = ProtobufReader(bytes, file: file, base: base)
        while let (field, value) = try metadata.next() {
          guard field == 1, let bytes = value.bytes else { continue }
          var data = ProtobufReader(bytes, file: file, base: base)
          while let (field, value) = try data.next() {
            if field == 1 { plugin = value.string ?? "" }
            if field == 2 { pluginContent = value.bytes }
          }
        }
      default: break
      }
    }
    if plugin == "hparams", let pluginContent {
      if let record = try HyperparameterRecord(parsing: pluginContent, file, base) { value = .hyperparameters(record) }
    } else if let tensor {
      value = try Self.value(of: EventTensor(parsing: tensor, file, base), plugin: plugin)
    }
  }

  /// A tensor's meaning by the rules of its plugin; Keras writes the plugin's name with the first value of a tag only, so that without
  /// a name a single number is a scalar.
  private static func value(of tensor: EventTensor, plugin: String) -> Value {
    switch plugin {
    case "scalars", "": return tensor.numbers.count == 1 ? .scalar(Float(tensor.numbers[0])) : .other
    case "histograms":
      guard tensor.shape.count == 2, tensor.shape[1] == 3, tensor.numbers.count % 3 == 0 else { return .other }
      let buckets = stride(from: 0, to: tensor.numbers.count, by: 3).map {
        Histogram.Bucket(tensor.numbers[$0], tensor.numbers[$0 + 1], count: tensor.numbers[$0 + 2])
      }
      return .histogram(Histogram(buckets: buckets))
    case "images":
      guard tensor.strings.count >= 2 else { return .other }
      let sides = tensor.strings.prefix(2).map { Int(String(decoding: $0, as: UTF8.self)) ?? 0 }
      return .image(Image(width: sides[0], height: sides[1], files: Array(tensor.strings.dropFirst(2))))
    case "text": return .text(tensor.strings.map { String(decoding: $0, as: UTF8.self) })
    case "audio":
      guard let file = tensor.strings.first else { return .other }
      return .audio(Audio(sampleRate: 0, channels: 0, frames: 0, file: file))
    default: return .other
    }
  }
}

extension Histogram {
  /// What can be known from the buckets alone.
  fileprivate init(buckets: [Bucket]) {
    let filled = buckets.filter { $0.count > 0 }
    let middles = filled.map { ($0.lower + $0.upper) / 2 }
    self.init(
      buckets: buckets, minimum: filled.first?.lower ?? 0, maximum: filled.last?.upper ?? 0,
      sum: zip(filled, middles).reduce(0) { $0 + $1.0.count * $1.1 },
      sumOfSquares: zip(filled, middles).reduce(0) { $0 + $1.0.count * $1.1 * $1.1 })
  }

  fileprivate init(parsing bytes: UnsafeRawBufferPointer, _ file: String, _ base: Int) throws(FormatError) {
    var reader = ProtobufReader(bytes, file: file, base: base)
    self.init(buckets: [], minimum: 0, maximum: 0, sum: 0, sumOfSquares: 0)
    var (limits, counts): ([Double], [Double]) = ([], [])
    while let (field, value) = try reader.next() {
      switch field {
      case 1: minimum = value.double ?? 0
      case 2: maximum = value.double ?? 0
      case 4: sum = value.double ?? 0
      case 5: sumOfSquares = value.double ?? 0
      case 6: ProtobufReader.append(value, to: &limits)
      case 7: ProtobufReader.append(value, to: &counts)
      default: break
      }
    }
    guard limits.count == counts.count else {
      throw FormatError(
        .sizeMismatch, file: file, offset: base, "a histogram has \(limits.count) limits, but \(counts.count) counts")
    }
    // Outer buckets may reach to ±1.8e308: their inner ends are the values' ends.
    var lower = minimum
    for (limit, count) in zip(limits, counts) {
      let upper = Swift.min(limit, maximum)
      if count > 0 { buckets.append(Bucket(Swift.min(Swift.max(lower, minimum), upper), upper, count: count)) }
      lower = limit
    }
  }
}

extension EventSummary.Image {
  fileprivate init(parsing bytes: UnsafeRawBufferPointer, _ file: String, _ base: Int) throws(FormatError) {
    var reader = ProtobufReader(bytes, file: file, base: base)
    self.init(width: 0, height: 0, files: [])
    while let (field, value) = try reader.next() {
      switch field {
      case 1: height = value.int ?? 0
      case 2: width = value.int ?? 0
      case 4: files = value.bytes.map { [Array($0)] } ?? []
      default: break
      }
    }
  }
}

extension EventSummary.Audio {
  fileprivate init(parsing bytes: UnsafeRawBufferPointer, _ file: String, _ base: Int) throws(FormatError) {
    var reader = ProtobufReader(bytes, file: file, base: base)
    self.init(sampleRate: 0, channels: 0, frames: 0, file: [])
    while let (field, value) = try reader.next() {
      switch field {
      case 1: sampleRate = value.float ?? 0
      case 2: channels = value.int ?? 0
      case 3: frames = value.int ?? 0
      case 4: self.file = value.bytes.map(Array.init) ?? []
      default: break
      }
    }
  }
}

/// What plugins need of a `TensorProto`.
private struct EventTensor {
  var shape: [Int] = []
  var numbers: [Double] = []
  var strings: [[UInt8]] = []

  init(parsing bytes: UnsafeRawBufferPointer, _ file: String, _ base: Int) throws(FormatError) {
    var reader = ProtobufReader(bytes, file: file, base: base)
    var type = 0
    var content: UnsafeRawBufferPointer?
    while let (field, value) = try reader.next() {
      switch field {
      case 1: type = value.int ?? 0
      case 2:
        guard let bytes = value.bytes else { continue }
        var dimensions = ProtobufReader(bytes, file: file, base: base)
        while let (field, value) = try dimensions.next() {
          guard field == 2, let bytes = value.bytes else { continue }
          var dimension = ProtobufReader(bytes, file: file, base: base)
          var size = 0
          while let (field, value) = try dimension.next() { if field == 1 { size = value.int ?? 0 } }
          shape.append(size)
        }
      case 4: content = value.bytes
      case 5:
        if let single = value.float { numbers.append(Double(single)) }
        if let packed = value.bytes { appendFloats(packed) }
      case 6: ProtobufReader.append(value, to: &numbers)
      case 8: strings += value.bytes.map { [Array($0)] } ?? []
      default: break
      }
    }
    guard let content, numbers.isEmpty else { return }
    if type == TensorFlowType.float { appendFloats(content) }
    if type == TensorFlowType.double { ProtobufReader.append(.bytes(content), to: &numbers) }
  }

  private mutating func appendFloats(_ packed: UnsafeRawBufferPointer) {
    for start in stride(from: 0, to: packed.count - packed.count % 4, by: 4) {
      let bits = UInt32(littleEndian: packed.loadUnaligned(fromByteOffset: start, as: UInt32.self))
      numbers.append(Double(Float(bitPattern: bits)))
    }
  }
}

extension HyperparameterRecord {
  fileprivate init?(parsing bytes: UnsafeRawBufferPointer, _ file: String, _ base: Int) throws(FormatError) {
    var reader = ProtobufReader(bytes, file: file, base: base)
    var result: HyperparameterRecord?
    while let (field, value) = try reader.next() {
      guard let bytes = value.bytes else { continue }
      switch field {
      case 2: result = try Self.experiment(bytes, file, base)
      case 3: result = try Self.start(bytes, file, base)
      case 4:
        var reader = ProtobufReader(bytes, file: file, base: base)
        var (status, time) = (EndStatus.unknown, 0.0)
        while let (field, value) = try reader.next() {
          if field == 1 { status = value.int.flatMap(EndStatus.init) ?? .unknown }
          if field == 2 { time = value.double ?? 0 }
        }
        result = .end(status, time: time)
      default: break
      }
    }
    guard let result else { return nil }
    self = result
  }

  private static func start(
    _ bytes: UnsafeRawBufferPointer, _ file: String, _ base: Int
  ) throws(FormatError) -> HyperparameterRecord {
    var reader = ProtobufReader(bytes, file: file, base: base)
    var (parameters, group, time): ([String: Hyperparameter], String, Double) = ([:], "", 0)
    while let (field, value) = try reader.next() {
      switch field {
      case 1:
        guard let bytes = value.bytes else { continue }
        var entry = ProtobufReader(bytes, file: file, base: base)
        var (name, parameter): (String, Hyperparameter?) = ("", nil)
        while let (field, value) = try entry.next() {
          if field == 1 { name = value.string ?? "" }
          if field == 2, let bytes = value.bytes { parameter = try Hyperparameter(parsing: bytes, file, base) }
        }
        if let parameter { parameters[name] = parameter }
      case 4: group = value.string ?? ""
      case 5: time = value.double ?? 0
      default: break
      }
    }
    return .start(parameters: parameters, group: group, time: time)
  }

  private static func experiment(
    _ bytes: UnsafeRawBufferPointer, _ file: String, _ base: Int
  ) throws(FormatError) -> HyperparameterRecord {
    var reader = ProtobufReader(bytes, file: file, base: base)
    var (parameters, metrics): ([String: Hyperparameter], [String]) = ([:], [])
    while let (field, value) = try reader.next() {
      guard field == 4 || field == 5, let bytes = value.bytes else { continue }
      var inner = ProtobufReader(bytes, file: file, base: base)
      var (name, type) = ("", 0)
      while let (part, value) = try inner.next() {
        if field == 4, part == 1 { name = value.string ?? "" }
        if field == 4, part == 4 { type = value.int ?? 0 }
        if field == 5, part == 1, let bytes = value.bytes {
          var metric = ProtobufReader(bytes, file: file, base: base)
          while let (part, value) = try metric.next() { if part == 2 { name = value.string ?? "" } }
        }
      }
      if field == 5 { metrics.append(name) } else { parameters[name] = type == 1 ? "" : type == 2 ? false : 0 }
    }
    return .experiment(parameters: parameters, metrics: metrics)
  }
}

extension Hyperparameter {
  fileprivate init?(parsing bytes: UnsafeRawBufferPointer, _ file: String, _ base: Int) throws(FormatError) {
    var reader = ProtobufReader(bytes, file: file, base: base)
    var result: Hyperparameter?
    while let (field, value) = try reader.next() {
      switch field {
      case 2: result = value.double.map { .number($0) }
      case 3: result = value.string.map { .text($0) }
      case 4: result = value.int.map { .flag($0 != 0) }
      default: break
      }
    }
    guard let result else { return nil }
    self = result
  }
}
