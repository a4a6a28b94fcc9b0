import ApusExport
import ApusFormats
import ApusServables
import ApusTensor
import GRPCCore

/// TensorFlow's numbers for element types.
enum TensorFlowType {
  static let string = 7

  static func elementType(_ number: Int) -> ElementType? { ElementType.allCases.first { $0.tensorFlowType == number } }

  /// `DT_UINT16`, for messages.
  static func name(_ number: Int) -> String {
    if let type = elementType(number) { return type.tensorFlowName }
    let others = [
      0: "DT_INVALID", 7: "DT_STRING", 8: "DT_COMPLEX64", 11: "DT_QINT8", 12: "DT_QUINT8", 13: "DT_QINT32", 15: "DT_QINT16",
      16: "DT_QUINT16", 17: "DT_UINT16", 18: "DT_COMPLEX128", 20: "DT_RESOURCE", 21: "DT_VARIANT", 22: "DT_UINT32",
      23: "DT_UINT64",
      24: "DT_FLOAT8_E5M2", 25: "DT_FLOAT8_E4M3FN", 29: "DT_INT4", 30: "DT_UINT4",
    ]
    return others[number] ?? "type \(number)"
  }
}

/// A `TensorProto` where it lies: its elements are copied once, to where they are computed on.
struct TensorMessage {
  private let bytes: UnsafeRawBufferPointer
  private(set) var type = 0
  private(set) var shape: [Int] = []
  private var hasUnknownRank = false
  private var content: UnsafeRawBufferPointer?

  init(_ bytes: UnsafeRawBufferPointer) throws(FormatError) {
    self.bytes = bytes
    var reader = ProtobufReader(bytes, file: "TensorProto")
    while let (field, value) = try reader.next() {
      switch field {
      case 1: type = value.int ?? 0
      case 2:
        var dimensions = ProtobufReader(value.bytes ?? .init(start: nil, count: 0), file: "TensorShapeProto")
        while let (field, value) = try dimensions.next() {
          switch field {
          case 2:
            guard shape.count < 254 else {
              throw FormatError(.limitExceeded, file: "TensorShapeProto", "more than 254 dimensions")
            }
            var (size, dimension) = (0, ProtobufReader(value.bytes ?? .init(start: nil, count: 0), file: "TensorShapeProto.Dim"))
            while let (field, value) = try dimension.next() { if field == 1 { size = value.int ?? 0 } }
            shape.append(size)
          case 3: hasUnknownRank = value.int != 0
          default: break
          }
        }
      case 4: content = value.bytes
      default: break
      }
    }
  }

  /// The tensor, if it is what the input takes. Nothing of the size that the message names is allocated before that is checked.
  /// - Parameter limit: most bytes of elements.
  /// - Throws: ``ServingError``, `invalidArgument`, naming the input.
  func tensor(for input: Signature.Input, limit: Int) throws(ServingError) -> Tensor {
    func invalid(_ message: String) -> ServingError {
      ServingError(.invalidArgument, "tensor parsing error: input '\(FormatError.excerpt(input.name))': " + message)
    }
    guard !hasUnknownRank else { throw invalid("the shape has an unknown rank") }
    if let size = shape.first(where: { $0 < 0 }) { throw invalid("the shape \(shape) has the negative size \(size)") }
    if type == TensorFlowType.string, input.spec.elementType == .uint8 { return try strings(input, limit, invalid) }
    guard let elementType = TensorFlowType.elementType(type) else {
      throw invalid(
        "the type \(TensorFlowType.name(type)) is not supported; the model takes \(input.spec.elementType.tensorFlowName)")
    }
    let (shape, byteCount) = try checked(shape, elementType, input, limit, invalid)
    if let content {
      guard content.count == byteCount else {
        throw invalid("tensor_content has \(content.count) bytes, but \(elementType)\(shape) takes \(byteCount)")
      }
      return try Tensor(uninitialized: shape, elementType) { (memory) throws(ServingError) in
        memory.copyMemory(from: content)
        // Any byte but 0 is true to a client; in memory, only 1 is.
        if elementType == .bool { for i in memory.indices where memory[i] > 1 { memory[i] = 1 } }
      }
    }
    return try Tensor(uninitialized: shape, elementType) { (memory) throws(ServingError) in
      do throws(TypedValues.Fault) {
        switch elementType {
        case .float32: try fill(memory, 5, UInt32.self) { (bits) throws(TypedValues.Fault) in UInt32(truncatingIfNeeded: bits) }
        case .float64: try fill(memory, 6, UInt64.self) { (bits) throws(TypedValues.Fault) in bits }
        case .float16, .bfloat16:
          try fill(memory, 13, UInt16.self) { (bits) throws(TypedValues.Fault) in
            guard bits <= 0xffff else { throw .outOfRange(bits) }
            return UInt16(bits)
          }
        case .bool: try fill(memory, 11, UInt8.self) { (bits) throws(TypedValues.Fault) in bits == 0 ? 0 : 1 }
        case .int64: try fill(memory, 10, UInt64.self) { (bits) throws(TypedValues.Fault) in bits }
        case .int32: try fill(memory, 7, Int32.self, Self.integer)
        case .int16: try fill(memory, 7, Int16.self, Self.integer)
        case .int8: try fill(memory, 7, Int8.self, Self.integer)
        case .uint8: try fill(memory, 7, UInt8.self, Self.integer)
        }
      } catch {
        switch error {
        case .malformed(let message): throw invalid(message)
        case .tooMany: throw invalid("it has more values than its shape \(shape) has elements")
        case .outOfRange(let bits): throw invalid("the value \(Int64(bitPattern: bits)) is not within \(elementType)")
        }
      }
    }
  }

  private static func integer<T: FixedWidthInteger>(_ bits: UInt64) throws(TypedValues.Fault) -> T {
    guard let value = T(exactly: Int64(bitPattern: bits)) else { throw .outOfRange(bits) }
    return value
  }

  private func checked(
    _ sizes: [Int], _ elementType: ElementType, _ input: Signature.Input, _ limit: Int, _ invalid: (String) -> ServingError
  ) throws(ServingError) -> (Shape, Int) {
    guard sizes.count <= Shape.maxRank else {
      throw invalid("a tensor has at most \(Shape.maxRank) dimensions, not \(sizes.count)")
    }
    let shape = Shape(sizes)
    guard let count = shape.checkedElementCount else {
      throw invalid("the shape \(sizes) has more elements than 64 bits can count")
    }
    let (bytes, overflow) = count.multipliedReportingOverflow(by: elementType.byteSize)
    guard !overflow, bytes <= limit else {
      throw invalid("the shape \(sizes) takes more than the \(limit) bytes that a request may have")
    }
    try check(shape, elementType, against: input)
    return (shape, bytes)
  }

  /// Fills memory with the values of one of the message's fields. Where there are fewer, the last one is repeated; where there are
  /// none, all are zero.
  private func fill<T: BitwiseCopyable>(
    _ memory: UnsafeMutableRawBufferPointer, _ field: Int, _: T.Type, _ convert: (UInt64) throws(TypedValues.Fault) -> T
  ) throws(TypedValues.Fault) {
    let count = memory.count / MemoryLayout<T>.size
    guard count > 0, let target = memory.baseAddress?.assumingMemoryBound(to: T.self) else { return }
    var index = 0
    var values = TypedValues(bytes, field: field)
    while let bits = try values.next() {
      guard index < count else { throw .tooMany }
      target[index] = try convert(bits)
      index += 1
    }
    if index == 0 {
      memory.initializeMemory(as: UInt8.self, repeating: 0)
    } else {
      let last = target[index - 1]
      while index < count {
        target[index] = last
        index += 1
      }
    }
  }

  /// Strings of one length, for an input of bytes.
  private func strings(_ input: Signature.Input, _ limit: Int, _ invalid: (String) -> ServingError) throws(ServingError) -> Tensor
  {
    var parts: [UnsafeRawBufferPointer] = []
    do throws(FormatError) {
      var reader = ProtobufReader(bytes, file: "TensorProto")
      while let (field, value) = try reader.next() { if field == 8, let part = value.bytes { parts.append(part) } }
    } catch { throw invalid(error.description) }
    var count = 1
    for size in shape {
      let (product, overflow) = count.multipliedReportingOverflow(by: size)
      guard !overflow else { throw invalid("the shape \(shape) has more elements than 64 bits can count") }
      count = product
    }
    guard parts.count == count else { throw invalid("it has \(parts.count) strings, but its shape \(shape) has \(count)") }
    let length = parts.first?.count ?? 0
    if let odd = parts.firstIndex(where: { $0.count != length }) {
      throw invalid("string \(odd) has \(parts[odd].count) bytes, string 0 has \(length); all must be alike")
    }
    let (shape, _) = try checked(shape + [length], .uint8, input, limit, invalid)
    return try Tensor(uninitialized: shape, .uint8) { (memory) throws(ServingError) in
      for (i, part) in parts.enumerated() {
        UnsafeMutableRawBufferPointer(rebasing: memory[i * length..<(i + 1) * length]).copyMemory(from: part)
      }
    }
  }
}

/// The numbers of a repeated field, packed or not, as bits.
struct TypedValues {
  enum Fault: Error {
    case malformed(String)
    case tooMany
    case outOfRange(UInt64)
  }

  private var reader: ProtobufReader
  private let field: Int
  private var packed = UnsafeRawBufferPointer(start: nil, count: 0)
  private var index = 0

  init(_ message: UnsafeRawBufferPointer, field: Int) {
    reader = ProtobufReader(message, file: "TensorProto")
    self.field = field
  }

  mutating func next() throws(Fault) -> UInt64? {
    while index >= packed.count {
      let next: (field: Int, value: ProtobufReader.Value)?
      do throws(FormatError) { next = try reader.next() } catch { throw .malformed(error.description) }
      guard let next else { return nil }
      guard next.field == field else { continue }
      switch next.value {
      case .varint(let bits), .fixed64(let bits): return bits
      case .fixed32(let bits): return UInt64(bits)
      case .bytes(let bytes): (packed, index) = (bytes, 0)
      }
    }
    switch field {
    case 5: return UInt64(try fixed(UInt32.self))
    case 6: return try fixed(UInt64.self)
    default:
      var result: UInt64 = 0
      for shift in stride(from: UInt64(0), to: 70, by: 7) {
        guard index < packed.count else { break }
        let byte = packed[index]
        index += 1
        result |= UInt64(byte & 0x7f) << shift
        if byte < 0x80 { return result }
      }
      throw .malformed("its values end inside a number")
    }
  }

  private mutating func fixed<T: FixedWidthInteger>(_: T.Type) throws(Fault) -> T {
    guard packed.count - index >= MemoryLayout<T>.size else { throw .malformed("its values end inside a number") }
    defer { index += MemoryLayout<T>.size }
    return T(littleEndian: packed.loadUnaligned(fromByteOffset: index, as: T.self))
  }
}

/// A `PredictRequest` where it lies; its tensors are places in the message.
struct PredictMessage {
  var spec = ModelSpecification()
  private(set) var inputs: [(name: String, tensor: UnsafeRawBufferPointer)] = []
  private(set) var outputFilter: [String] = []

  init(_ bytes: UnsafeRawBufferPointer, limits: ServingLimits) throws(FormatError) {
    var reader = ProtobufReader(bytes, file: "PredictRequest")
    func bounded(_ count: Int, _ what: String) throws(FormatError) {
      guard count < limits.maxTensors else {
        throw FormatError(.limitExceeded, file: "PredictRequest", "more than \(limits.maxTensors) \(what)")
      }
    }
    while let (field, value) = try reader.next() {
      switch field {
      case 1: try spec.read(value.bytes ?? .init(start: nil, count: 0))
      case 2:
        try bounded(inputs.count, "inputs")
        var (name, tensor) = ("", UnsafeRawBufferPointer(start: nil, count: 0))
        var entry = ProtobufReader(value.bytes ?? .init(start: nil, count: 0), file: "PredictRequest.inputs")
        while let (field, value) = try entry.next() {
          switch field {
          case 1: name = value.string ?? ""
          case 2: tensor = value.bytes ?? .init(start: nil, count: 0)
          default: break
          }
        }
        inputs.append((name, tensor))
      case 3:
        try bounded(outputFilter.count, "outputs")
        outputFilter.append(value.string ?? "")
      default: break
      }
    }
  }

  /// The request to a model, its tensors checked and made.
  /// - Throws: ``ServingError`` with TensorFlow Serving's texts where it has one.
  func request(
    for servable: any Servable, maxRequestBytes: Int
  ) throws(ServingError) -> InferenceRequest {
    func set(_ names: some Collection<String>) -> String {
      "{" + names.sorted().map { FormatError.excerpt($0) }.joined(separator: ",") + "}"
    }
    let (name, signature) = try servable.tensorFlowSignature(spec.signatureName, code: .failedPrecondition)
    let known = Set(signature.inputs.map(\.name))
    let sent = Set(inputs.map(\.name))
    guard sent.count == inputs.count else {
      let twice = inputs.map(\.name).first { name in inputs.count { $0.name == name } > 1 } ?? ""
      throw ServingError(.invalidArgument, "the input '\(FormatError.excerpt(twice))' is given twice")
    }
    guard sent.count == known.count else {
      throw ServingError(
        .invalidArgument,
        "input size does not match signature: \(sent.count)!=\(known.count) len(\(set(sent))) != len(\(set(known))). "
          + "Sent extra: \(set(sent.subtracting(known))). Missing but required: \(set(known.subtracting(sent))).")
    }
    var request = InferenceRequest(signature: name, inputs: [:])
    var left = maxRequestBytes
    for (name, bytes) in inputs {
      guard let input = signature.inputs.first(where: { $0.name == name }) else {
        throw ServingError(
          .invalidArgument,
          "input tensor alias not found in signature: \(FormatError.excerpt(name)). Inputs expected to be in the set \(set(known))."
        )
      }
      let message: TensorMessage
      do throws(FormatError) { message = try TensorMessage(bytes) } catch {
        throw ServingError(.invalidArgument, "tensor parsing error: input '\(FormatError.excerpt(name))': \(error)")
      }
      let tensor = try message.tensor(for: input, limit: left)
      left -= tensor.shape.elementCount * tensor.elementType.byteSize
      request.inputs[name] = tensor
    }
    try check(request.inputs, against: signature)
    if !outputFilter.isEmpty {
      var seen: Set<String> = []
      for name in outputFilter {
        guard signature.outputs.contains(where: { $0.name == name }) else {
          throw ServingError(
            .invalidArgument,
            "output tensor alias not found in signature: \(FormatError.excerpt(name)) Outputs expected to be in the set "
              + "\(set(signature.outputs.map(\.name))).")
        }
        guard seen.insert(name).inserted else {
          throw ServingError(.invalidArgument, "duplicate output tensor alias: \(FormatError.excerpt(name))")
        }
      }
      request.outputs = outputFilter
    }
    return request
  }
}

/// A `ModelSpec`.
struct ModelSpecification: Sendable, Equatable {
  var name = ""
  var version = VersionChoice.latest
  var signatureName = ""

  init() {}

  mutating func read(_ bytes: UnsafeRawBufferPointer) throws(FormatError) {
    var reader = ProtobufReader(bytes, file: "ModelSpec")
    while let (field, value) = try reader.next() {
      switch field {
      case 1: name = value.string ?? ""
      case 2:
        var number = 0
        var wrapped = ProtobufReader(value.bytes ?? .init(start: nil, count: 0), file: "ModelSpec.version")
        while let (field, value) = try wrapped.next() { if field == 1 { number = value.int ?? 0 } }
        version = .number(number)
      case 3: signatureName = value.string ?? ""
      case 4: version = .label(value.string ?? "")
      default: break
      }
    }
  }
}

/// A `PredictRequest` that has been read.
struct PredictCall: Sendable {
  var arrived: ContinuousClock.Instant
  /// What the client calls the signature; the answer says the same.
  var signatureName = servingDefault
  var prepared: Result<(model: ServedModel, request: InferenceRequest), ServingError>
}

struct PredictCallDeserializer: MessageDeserializer {
  let context: ServingContext

  func deserialize<Bytes: GRPCContiguousBytes>(_ bytes: Bytes) throws -> PredictCall {
    bytes.withUnsafeBytes { read($0) }
  }

  func read(_ bytes: UnsafeRawBufferPointer) -> PredictCall {
    let arrived = ContinuousClock.now
    do throws(ServingError) {
      let message: PredictMessage
      do throws(FormatError) { message = try PredictMessage(bytes, limits: context.limits) } catch {
        throw ServingError(.invalidArgument, error.description)
      }
      let model = try context.servedModel(message.spec.name, message.spec.version)
      do throws(ServingError) {
        let request = try message.request(for: model.servable, maxRequestBytes: model.configuration.maxRequestBytes)
        let name = message.spec.signatureName.isEmpty ? servingDefault : message.spec.signatureName
        return PredictCall(arrived: arrived, signatureName: name, prepared: .success((model, request)))
      } catch {
        context.refused(model, id: "", api: .tensorFlowGRPC, arrived: arrived, error)
        throw error
      }
    } catch {
      return PredictCall(arrived: arrived, prepared: .failure(error))
    }
  }
}

/// A `PredictResponse`.
struct PredictReply: Sendable {
  var model: String
  var version: Int
  var signature: String
  var outputs: [(name: String, tensor: Tensor)]
}

/// Writes an answer; the bytes of outputs are copied once, into the message.
struct PredictReplySerializer: MessageSerializer {
  func serialize<Bytes: GRPCContiguousBytes>(_ reply: PredictReply) throws -> Bytes {
    // Of each output, what comes before its elements.
    let heads = reply.outputs.map { name, tensor in
      let size = tensor.shape.elementCount * tensor.elementType.byteSize
      var head = ProtobufWriter()
      head.put(1, tensor.elementType.tensorFlowType)
      head.put(2) { shape in for size in tensor.shape { shape.put(2) { $0.put(1, size) } } }
      let proto = head.bytes + Self.tag(4, length: size)
      var key = ProtobufWriter()
      key.put(1, name)
      let entry = key.bytes + Self.tag(2, length: proto.count + size) + proto
      return Self.tag(1, length: entry.count + size) + entry
    }
    var tail = ProtobufWriter()
    tail.put(2) { spec in
      spec.put(1, reply.model)
      spec.put(2) { $0.put(1, reply.version) }
      spec.put(3, reply.signature)
    }
    let count = zip(heads, reply.outputs).reduce(tail.bytes.count) {
      $0 + $1.0.count + $1.1.tensor.shape.elementCount * $1.1.tensor.elementType.byteSize
    }
    var bytes = Bytes(repeating: 0, count: count)
    bytes.withUnsafeMutableBytes { memory in
      var position = 0
      func put(_ part: UnsafeRawBufferPointer) {
        UnsafeMutableRawBufferPointer(rebasing: memory[position..<position + part.count]).copyMemory(from: part)
        position += part.count
      }
      for (head, output) in zip(heads, reply.outputs) {
        head.withUnsafeBytes { put($0) }
        output.tensor.withUnsafeBytes { put($0) }
      }
      tail.bytes.withUnsafeBytes { put($0) }
    }
    return bytes
  }

  /// The key and the length of a field that is bytes.
  static func tag(_ field: UInt8, length: Int) -> [UInt8] {
    var bytes = [field << 3 | 2]
    var rest = UInt64(length)
    while rest >= 0x80 {
      bytes.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    bytes.append(UInt8(rest))
    return bytes
  }
}
