import ApusExport
import ApusFormats
import ApusServables
import ApusTensor
import GRPCCore

/// A `ModelInferRequest`, its tensors made.
struct InferCall: Sendable {
  var id = ""
  var arrived: ContinuousClock.Instant
  var wantsFinalMark = false
  var prepared: Result<PreparedInference, ServingError>
}

/// Reads a `ModelInferRequest` where it lies and copies the bytes of tensors once, from the message to where they are computed on.
struct InferCallDeserializer: MessageDeserializer {
  let context: ServingContext

  func deserialize<Bytes: GRPCContiguousBytes>(_ bytes: Bytes) throws -> InferCall {
    bytes.withUnsafeBytes { read($0) }
  }

  func read(_ bytes: UnsafeRawBufferPointer) -> InferCall {
    let arrived = ContinuousClock.now
    var call = InferCall(
      arrived: arrived, prepared: .failure(ServingError(.invalidArgument, "ModelInferRequest: the message is broken")))
    var message = InferMessage()
    do throws(ServingError) {
      do throws(FormatError) { try message.read(bytes, limits: context.limits) } catch {
        throw ServingError(.invalidArgument, error.description)
      }
      call.id = message.id
      let model = try context.repository.inferenceModel(message.model, version: message.version)
      do throws(ServingError) {
        if let error = message.error { throw error }
        call.wantsFinalMark = message.parameters.wantsFinalMark
        let (name, signature) = try model.signature(message.parameters.signature)
        var gathering = InputGathering(model, signature)
        try message.gather(into: &gathering)
        call.prepared = .success(
          try PreparedInference(
            gathering, signature: name, id: message.id, parameters: message.parameters,
            outputs: message.outputs.isEmpty ? nil : message.outputs, arrived: arrived))
      } catch {
        context.refused(model, id: message.id, api: .inferenceGRPC, arrived: arrived, error)
        throw error
      }
    } catch {
      call.prepared = .failure(error)
    }
    return call
  }
}

/// The fields of a `ModelInferRequest`; tensors are places in the message.
private struct InferMessage {
  struct Input {
    var name = ""
    var datatype = ""
    var shape: [Int] = []
    var contents: UnsafeRawBufferPointer?
  }

  var model = ""
  var version = ""
  var id = ""
  var parameters = RequestParameters()
  var inputs: [Input] = []
  var outputs: [RequestedOutput] = []
  var raw: [UnsafeRawBufferPointer] = []
  /// What is wrong with a request whose bytes are a message.
  var error: ServingError?

  private mutating func note(_ body: (inout Self) throws(ServingError) -> Void) {
    do throws(ServingError) { try body(&self) } catch { if self.error == nil { self.error = error } }
  }

  mutating func read(_ bytes: UnsafeRawBufferPointer, limits: ServingLimits) throws(FormatError) {
    var reader = ProtobufReader(bytes, file: "ModelInferRequest")
    func bounded(_ count: Int, _ what: String) throws(FormatError) {
      guard count < limits.maxTensors else {
        throw FormatError(.limitExceeded, file: "ModelInferRequest", "more than \(limits.maxTensors) \(what)")
      }
    }
    while let (field, value) = try reader.next() {
      switch field {
      case 1: model = value.string ?? ""
      case 2: version = value.string ?? ""
      case 3: id = value.string ?? ""
      case 4:
        let (key, parameter) = try Self.entry(value)
        note { (message) throws(ServingError) in try message.parameters.set(key, parameter) }
      case 5:
        try bounded(inputs.count, "inputs")
        let input = try input(value)
        inputs.append(input)
      case 6:
        try bounded(outputs.count, "outputs")
        let output = try output(value)
        outputs.append(output)
      case 7:
        try bounded(raw.count, "raw_input_contents")
        if let bytes = value.bytes { raw.append(bytes) }
      default: break
      }
    }
  }

  private mutating func input(_ value: ProtobufReader.Value) throws(FormatError) -> Input {
    var input = Input()
    var reader = ProtobufReader(value.bytes ?? .init(start: nil, count: 0), file: "ModelInferRequest.inputs")
    while let (field, value) = try reader.next() {
      switch field {
      case 1: input.name = value.string ?? ""
      case 2: input.datatype = value.string ?? ""
      case 3:
        if let size = value.int {
          input.shape.append(size)
        } else if let packed = value.bytes {
          var sizes = Varints(packed)
          while let size = sizes.next() {
            guard input.shape.count < 64 else { break }
            input.shape.append(Int(Int64(bitPattern: size)))
          }
          guard sizes.isWhole || input.shape.count == 64 else {
            throw FormatError(.truncated, file: "ModelInferRequest.inputs", "the shape ends inside a number")
          }
        }
      case 4:
        let (key, _) = try Self.entry(value)
        if key == "shared_memory_region" { note { (_) throws(ServingError) in throw noSharedMemory } }
      case 5: input.contents = value.bytes
      default: break
      }
    }
    return input
  }

  private mutating func output(_ value: ProtobufReader.Value) throws(FormatError) -> RequestedOutput {
    var output = RequestedOutput(name: "")
    var parameters: [(String, Parameter?)] = []
    var reader = ProtobufReader(value.bytes ?? .init(start: nil, count: 0), file: "ModelInferRequest.outputs")
    while let (field, value) = try reader.next() {
      switch field {
      case 1: output.name = value.string ?? ""
      case 2: parameters.append(try Self.entry(value))
      default: break
      }
    }
    for (key, parameter) in parameters {
      note { (_) throws(ServingError) in try output.set(key, parameter) }
    }
    return output
  }

  /// An entry of a map of parameters.
  private static func entry(_ value: ProtobufReader.Value) throws(FormatError) -> (String, Parameter?) {
    var key = ""
    var result: Parameter?
    var reader = ProtobufReader(value.bytes ?? .init(start: nil, count: 0), file: "ModelInferRequest.parameters")
    while let (field, value) = try reader.next() {
      switch field {
      case 1: key = value.string ?? ""
      case 2:
        var choice = ProtobufReader(value.bytes ?? .init(start: nil, count: 0), file: "InferParameter")
        while let (field, value) = try choice.next() {
          switch field {
          case 1: result = value.int.map { .bool($0 != 0) }
          // What is beyond 63 bits is no size or time that anybody means.
          case 2: result = value.int.map { .integer($0) }
          case 3: result = value.string.map { .string($0) }
          case 4: result = value.double.map { .number($0) }
          case 5: result = value.int.map { .integer($0 < 0 ? Int.max : $0) }
          default: break
          }
        }
      default: break
      }
    }
    return (key, result)
  }

  /// Makes the tensors.
  func gather(into gathering: inout InputGathering) throws(ServingError) {
    func invalid(_ message: String) -> ServingError { ServingError(.invalidArgument, message) }
    if !raw.isEmpty {
      if let mixed = inputs.first(where: { $0.contents != nil }) {
        throw invalid("inference input \(quoted(mixed.name)) has contents, but raw_input_contents are given: use only one")
      }
      guard raw.count == inputs.count else {
        throw invalid("expected \(inputs.count) raw_input_contents, one for each input, got \(raw.count)")
      }
    }
    for (index, input) in inputs.enumerated() {
      let datatype = try Datatype(input.datatype, input: input.name)
      if let bytes = raw.isEmpty ? nil : raw[index] {
        try gathering.addRaw(input.name, datatype, shape: input.shape, bytes)
      } else {
        try add(input, datatype, to: &gathering)
      }
    }
  }

  /// Makes a tensor of typed contents.
  private func add(_ input: Input, _ datatype: Datatype, to gathering: inout InputGathering) throws(ServingError) {
    func invalid(_ message: String) -> ServingError {
      ServingError(.invalidArgument, "inference input \(quoted(input.name)): " + message)
    }
    let contents = input.contents ?? UnsafeRawBufferPointer(start: nil, count: 0)
    // The field of InferTensorContents, and bytes per element where it is packed with a fixed width.
    let wanted: (field: Int, width: Int?, name: String)
    switch datatype {
    case .numbers(.bool): wanted = (1, nil, "bool_contents")
    case .numbers(.int8), .numbers(.int16), .numbers(.int32): wanted = (2, nil, "int_contents")
    case .numbers(.int64): wanted = (3, nil, "int64_contents")
    case .numbers(.uint8): wanted = (4, nil, "uint_contents")
    case .numbers(.float32): wanted = (6, 4, "fp32_contents")
    case .numbers(.float64): wanted = (7, 8, "fp64_contents")
    case .bytes: wanted = (8, nil, "bytes_contents")
    case .numbers(.float16), .numbers(.bfloat16):
      throw invalid("data-type '\(datatype.name)' has no typed contents; send raw_input_contents")
    }
    var parts: [UnsafeRawBufferPointer] = []
    var singles: [UInt64] = []
    do throws(FormatError) {
      var reader = ProtobufReader(contents, file: "InferTensorContents")
      while let (field, value) = try reader.next() {
        guard field == wanted.field else {
          throw FormatError(
            .invalidEntry, file: "InferTensorContents",
            "the data-type '\(datatype.name)' takes \(wanted.name), not field \(field)")
        }
        switch value {
        case .bytes(let packed): parts.append(packed)
        case .varint(let number), .fixed64(let number): singles.append(number)
        case .fixed32(let number): singles.append(UInt64(number))
        }
      }
    } catch {
      throw invalid(error.description)
    }

    if datatype == .bytes {
      let count = try checkedCount(input.shape, input: input.name)
      guard parts.count == count else { throw invalid("expected \(count) elements in bytes_contents, got \(parts.count)") }
      let length = parts.first?.count ?? 0
      if let odd = parts.firstIndex(where: { $0.count != length }) {
        throw invalid("element \(odd) has \(parts[odd].count) bytes, element 0 \(length); all must be alike")
      }
      let slot = try gathering.slot(input.name, stringsOf: length, shape: input.shape)
      return try gathering.add(slot) { (memory) throws(ServingError) in
        for (i, part) in parts.enumerated() {
          UnsafeMutableRawBufferPointer(rebasing: memory[i * length..<(i + 1) * length]).copyMemory(from: part)
        }
      }
    }

    guard case .numbers(let type) = datatype else { return }
    let slot = try gathering.slot(input.name, type, shape: input.shape)
    let count = slot.shape.elementCount
    func expected(_ found: String) -> ServingError {
      invalid("shape \(listed(input.shape)) has \(count) elements, \(wanted.name) \(found)")
    }
    if let width = wanted.width {
      let bytes = parts.reduce(0) { $0 + $1.count } + singles.count * width
      guard bytes == count * width else { throw expected("\(bytes / width)") }
      return try gathering.add(slot) { (memory) throws(ServingError) in
        var position = 0
        for part in parts {
          UnsafeMutableRawBufferPointer(rebasing: memory[position..<position + part.count]).copyMemory(from: part)
          position += part.count
        }
        for number in singles {
          if width == 4 {
            memory.storeBytes(of: UInt32(truncatingIfNeeded: number), toByteOffset: position, as: UInt32.self)
          } else {
            memory.storeBytes(of: number, toByteOffset: position, as: UInt64.self)
          }
          position += width
        }
      }
    }
    try gathering.add(slot) { (memory) throws(ServingError) in
      var index = 0
      func store(_ number: UInt64) throws(ServingError) {
        guard index < count else { throw expected("more") }
        let value = Int64(bitPattern: number)
        func beyond() -> ServingError { invalid("element \(index), \(value), is beyond \(datatype.name)") }
        switch type {
        case .bool: memory[index] = number == 0 ? 0 : 1
        case .uint8:
          guard let byte = UInt8(exactly: value) else { throw beyond() }
          memory[index] = byte
        case .int8:
          guard let byte = Int8(exactly: value) else { throw beyond() }
          memory[index] = UInt8(bitPattern: byte)
        case .int16:
          guard let word = Int16(exactly: value) else { throw beyond() }
          memory.storeBytes(of: word, toByteOffset: index * 2, as: Int16.self)
        case .int32:
          guard let word = Int32(exactly: value) else { throw beyond() }
          memory.storeBytes(of: word, toByteOffset: index * 4, as: Int32.self)
        default: memory.storeBytes(of: value, toByteOffset: index * 8, as: Int64.self)
        }
        index += 1
      }
      for part in parts {
        var numbers = Varints(part)
        while let number = numbers.next() { try store(number) }
        guard numbers.isWhole else { throw invalid("\(wanted.name) ends inside a number") }
      }
      for number in singles { try store(number) }
      guard index == count else { throw expected("\(index)") }
    }
  }
}

extension InputGathering {
  /// Makes a tensor of bytes as they are in memory, or of strings with their lengths.
  mutating func addRaw(_ name: String, _ datatype: Datatype, shape: [Int], _ bytes: UnsafeRawBufferPointer) throws(ServingError) {
    switch datatype {
    case .numbers(let type):
      let slot = try slot(name, type, shape: shape)
      guard bytes.count == slot.byteCount else {
        throw ServingError(
          .invalidArgument,
          "unexpected total byte size \(bytes.count) for input \(quoted(name)), expecting \(slot.byteCount) for shape "
            + "\(listed(shape)) of \(datatype.name)")
      }
      try add(slot) { (memory) throws(ServingError) in memory.copyMemory(from: bytes) }
    case .bytes:
      let strings = LengthPrefixedStrings(bytes: bytes)
      let length = try strings.length(count: try checkedCount(shape, input: name), input: name)
      let slot = try slot(name, stringsOf: length, shape: shape)
      try add(slot) { (memory) throws(ServingError) in strings.copy(length: length, into: memory) }
    }
  }
}

/// The numbers of a packed field.
private struct Varints {
  private let bytes: UnsafeRawBufferPointer
  private var index = 0
  /// Whether the bytes ended where a number did.
  private(set) var isWhole = true

  init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

  mutating func next() -> UInt64? {
    guard index < bytes.count else { return nil }
    var result: UInt64 = 0
    for shift in stride(from: UInt64(0), to: 70, by: 7) {
      guard index < bytes.count else { break }
      let byte = bytes[index]
      index += 1
      result |= UInt64(byte & 0x7f) << shift
      if byte < 0x80 { return result }
    }
    isWhole = false
    index = bytes.count
    return nil
  }
}

/// A `ModelInferResponse`, or in a stream a `ModelStreamInferResponse`.
struct InferReply: Sendable {
  var model: String
  var version: String
  var id: String
  var outputs: [OutputTensor]
  /// Whether it says that no other answer follows to the same request.
  var isMarkedFinal = false
  var error: String?
}

/// Writes an answer; the bytes of outputs are copied once, into the message.
struct InferReplySerializer: MessageSerializer {
  /// Whether the message is wrapped as in a stream.
  let isStream: Bool

  func serialize<Bytes: GRPCContiguousBytes>(_ reply: InferReply) throws -> Bytes {
    var head = ProtobufWriter()
    head.put(1, reply.model)
    head.put(2, reply.version)
    head.put(3, reply.id)
    if reply.isMarkedFinal {
      head.put(4) { entry in
        entry.put(1, "triton_final_response")
        entry.put(2) { $0.put(1, true) }
      }
    }
    for output in reply.outputs {
      head.put(5) { message in
        message.put(1, output.name)
        message.put(2, output.datatype)
        for size in output.shape { message.put(3, size) }
      }
    }
    let sizes = reply.outputs.map(\.byteCount)
    let tags = sizes.map { size in Self.tag(6, length: size) }
    let inner = head.bytes.count + zip(tags, sizes).reduce(0) { $0 + $1.0.count + $1.1 }
    var prefix: [UInt8] = []
    if isStream {
      var error = ProtobufWriter()
      if let message = reply.error { error.put(1, message) }
      prefix = error.bytes + Self.tag(2, length: inner)
    }
    var bytes = Bytes(repeating: 0, count: prefix.count + inner)
    bytes.withUnsafeMutableBytes { memory in
      var position = 0
      func put(_ part: [UInt8]) {
        part.withUnsafeBytes {
          UnsafeMutableRawBufferPointer(rebasing: memory[position..<position + part.count]).copyMemory(from: $0)
        }
        position += part.count
      }
      put(prefix)
      put(head.bytes)
      for (i, output) in reply.outputs.enumerated() {
        put(tags[i])
        output.write(to: UnsafeMutableRawBufferPointer(rebasing: memory[position..<position + sizes[i]]))
        position += sizes[i]
      }
    }
    return bytes
  }

  /// The tag of a field of bytes, and their number.
  private static func tag(_ field: Int, length: Int) -> [UInt8] {
    var result = [UInt8(field << 3 | 2)]
    var rest = UInt(length)
    while rest >= 0x80 {
      result.append(UInt8(truncatingIfNeeded: rest) | 0x80)
      rest >>= 7
    }
    result.append(UInt8(rest))
    return result
  }
}
