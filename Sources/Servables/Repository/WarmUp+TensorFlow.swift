import ApusFormats
import ApusTensor

extension WarmUp {
  /// The requests that TensorFlow Serving recorded: records of `PredictionLog`.
  /// - Parameter log: reads one; nil: those of Predict are read here, others are left out.
  /// - Throws: ``ServingError``.
  static func tensorFlow(
    _ path: String, _ servable: any Servable, _ log: RepositoryOptions.WarmUpLog?
  ) throws(ServingError) -> [Request] {
    var records: [[UInt8]] = []
    do throws(FormatError) {
      let reader = try EventFileReader(path, limit: 1 << 28)
      while let record = try reader.nextRecord() {
        guard records.count < limit else { throw FormatError(.limitExceeded, file: path, "has more than \(limit) requests") }
        records.append(record)
      }
      guard reader.tornBytes == 0 else {
        throw FormatError(.truncated, file: path, offset: reader.offset, "the last record is cut off")
      }
    } catch {
      throw ServingError(.invalidArgument, "warm-up: \(error.description)")
    }
    var requests: [Request] = []
    for (i, record) in records.enumerated() {
      let request = try record.withUnsafeBufferPointer { (raw) throws(ServingError) -> Request? in
        let bytes = UnsafeRawBufferPointer(raw)
        if let log {
          let request = try log(bytes, servable)
          return Request(signature: request.signature, inputs: request.inputs)
        }
        do throws(FormatError) { return try Request(predictionLog: bytes, file: path + ", record \(i + 1)") } catch {
          throw ServingError(.invalidArgument, "warm-up: \(error.description)")
        }
      }
      if let request { requests.append(request) }
    }
    return requests
  }
}

extension WarmUp.Request {
  /// The request in a `tensorflow.serving.PredictionLog`; nil if it is of another kind than Predict.
  init?(predictionLog bytes: UnsafeRawBufferPointer, file: String) throws(FormatError) {
    self.init(inputs: [:])
    var isPredict = false
    var log = ProtobufReader(bytes, file: file)
    while let (field, value) = try log.next() {
      guard field == 6, let bytes = value.bytes else { continue }
      var predict = ProtobufReader(bytes, file: file)
      while let (field, value) = try predict.next() {
        guard field == 1, let bytes = value.bytes else { continue }
        isPredict = true
        try read(request: bytes, file)
      }
    }
    if !isPredict { return nil }
  }

  private mutating func read(request bytes: UnsafeRawBufferPointer, _ file: String) throws(FormatError) {
    var request = ProtobufReader(bytes, file: file)
    while let (field, value) = try request.next() {
      guard let bytes = value.bytes else { continue }
      var inner = ProtobufReader(bytes, file: file)
      switch field {
      case 1:  // model_spec
        while let (field, value) = try inner.next() {
          if field == 3, let name = value.string, !name.isEmpty { signature = name }
        }
      case 2:  // inputs
        var (name, content): (String, UnsafeRawBufferPointer?) = ("", nil)
        while let (field, value) = try inner.next() {
          if field == 1 { name = value.string ?? "" }
          if field == 2 { content = value.bytes }
        }
        inputs[name] = try Self.tensor(content ?? UnsafeRawBufferPointer(start: nil, count: 0), file, name)
      default: break
      }
    }
    // The name under which TensorFlow's models have their only signature.
    if signature == "serving_default" { signature = nil }
  }

  /// A `tensorflow.TensorProto`.
  private static func tensor(_ bytes: UnsafeRawBufferPointer, _ file: String, _ name: String) throws(FormatError) -> Tensor {
    func error(_ kind: FormatError.Kind, _ message: String) -> FormatError { FormatError(kind, file: file, part: name, message) }
    var code = 0
    var shape: [Int] = []
    var content: UnsafeRawBufferPointer?
    // Elements that are given one by one, as whole numbers or as bits.
    var values: [UInt64] = []
    func append(_ value: ProtobufReader.Value, width: Int) throws(FormatError) {
      switch value {
      case .varint(let number), .fixed64(let number): values.append(number)
      case .fixed32(let number): values.append(UInt64(number))
      case .bytes(let packed):
        guard width == 0 else {
          for start in stride(from: 0, to: packed.count - packed.count % width, by: width) {
            values.append(
              width == 4
                ? UInt64(UInt32(littleEndian: packed.loadUnaligned(fromByteOffset: start, as: UInt32.self)))
                : UInt64(littleEndian: packed.loadUnaligned(fromByteOffset: start, as: UInt64.self)))
          }
          return
        }
        var (number, shift): (UInt64, UInt64) = (0, 0)
        for byte in packed {
          guard shift < 64 else { throw error(.malformed, "a packed number has more than ten bytes") }
          number |= UInt64(byte & 0x7f) << shift
          shift += 7
          if byte < 0x80 {
            values.append(number)
            (number, shift) = (0, 0)
          }
        }
        guard shift == 0 else { throw error(.truncated, "a packed number is cut off") }
      }
    }
    var reader = ProtobufReader(bytes, file: file)
    while let (field, value) = try reader.next() {
      switch field {
      case 1: code = value.int ?? 0
      case 2:
        guard let bytes = value.bytes else { continue }
        var dimensions = ProtobufReader(bytes, file: file)
        while let (field, value) = try dimensions.next() {
          guard field == 2, let bytes = value.bytes else { continue }
          var dimension = ProtobufReader(bytes, file: file)
          var size = 0
          while let (field, value) = try dimension.next() { if field == 1 { size = value.int ?? 0 } }
          guard shape.count < Shape.maxRank else { throw error(.limitExceeded, "has more than \(Shape.maxRank) dimensions") }
          shape.append(size)
        }
      case 4: content = value.bytes
      case 5: try append(value, width: 4)  // float_val
      case 6: try append(value, width: 8)  // double_val
      case 7, 10, 11, 13: try append(value, width: 0)  // int_val, int64_val, bool_val, half_val
      default: break
      }
    }
    let types: [Int: ElementType] = [
      1: .float32, 2: .float64, 3: .int32, 4: .uint8, 5: .int16, 6: .int8, 9: .int64, 10: .bool, 14: .bfloat16, 19: .float16,
    ]
    guard let type = types[code] else { throw error(.unsupported, "is of TensorFlow's type \(code), which no model takes") }
    let count: Int
    do throws(ServingError) { count = try WarmUp.byteCount(shape, type, name) } catch let problem {
      throw error(.limitExceeded, problem.message)
    }
    if let content, !content.isEmpty {
      guard content.count == count else {
        throw error(.sizeMismatch, "has \(content.count) bytes, but its shape \(shape) of \(type) takes \(count)")
      }
      guard type == .bool else { return Tensor(bytes: content, shape: Shape(shape), elementType: type) }
      values = content.map { $0 == 0 ? 0 : 1 }
    }
    let elements = count / type.byteSize
    guard values.count <= elements, !values.isEmpty || elements == 0 else {
      throw error(.sizeMismatch, "has \(values.count) elements, but its shape \(shape) takes \(elements)")
    }
    var data: [UInt8] = []
    data.reserveCapacity(count)
    for i in 0..<elements {
      // The last one stands for all that follow.
      var value = values[min(i, values.count - 1)]
      if type == .bool, value != 0 { value = 1 }
      withUnsafeBytes(of: value.littleEndian) { data += $0.prefix(type.byteSize) }
    }
    return data.withUnsafeBytes { Tensor(bytes: $0, shape: Shape(shape), elementType: type) }
  }
}
