import ApusExport
import ApusFormats
import ApusServables
import ApusTensor
import NIOCore

/// The body of `:predict`, in row format (`instances`) or column format (`inputs`).
struct PredictJSON {
  enum Format {
    case row, column
  }

  var signatureName: String
  var signature: Signature
  var format: Format
  var inputs: [String: Tensor]

  /// Reads a body straight into tensors of the types that the signature names. Their shapes are still to be checked.
  /// - Throws: ``ServingError``, `invalidArgument`, naming the key, the input and the index.
  static func read(_ body: ByteBuffer, _ model: ServedModel, limits: ServingLimits) throws(ServingError) -> PredictJSON {
    guard body.readableBytes > 0 else { throw ServingError(.invalidArgument, "JSON Parse error: The document is empty") }
    var reader = Reader(model: model, limits: limits, body: body)
    do throws(ServingError) {
      if let result = try reader.attempt() { return result }
    } catch {
      // The values may have been read as another signature's than the one that a later key names.
      guard reader.name == nil, let name = try? reader.laterName(), name != "" else { throw error }
      reader.name = name
    }
    guard let result = try reader.attempt() else { throw ServingError(.internalError, "the signature's name changed") }
    return result
  }
}

private struct Reader {
  let model: ServedModel
  let limits: ServingLimits
  let body: ByteBuffer
  /// The signature's, where it is known.
  var name: String?

  /// Reads the body as that of the signature that is known, else of the one whose name comes before the values, else of the default
  /// one; nil if a name after the values, which is then known, shows that they are another signature's.
  mutating func attempt() throws(ServingError) -> PredictJSON? {
    var (result, later): (PredictJSON?, String?) = (nil, nil)
    let (reader, known) = (self, name)
    try body.scanJSON(maxDepth: limits.maxDepth) { scanner throws(ServingError) in
      guard try scanner.kind() == .object else { throw reader.wrong("Is not object") }
      var name = known
      try scanner.beginObject()
      while let key = try scanner.nextKey() {
        switch key {
        case "signature_name":
          let found = try reader.signatureName(&scanner)
          guard known == nil else { break }
          if let result, try reader.model.tensorFlowSignature(found).name != result.signatureName { later = found }
          name = found
        case "instances":
          guard result == nil else { throw reader.both }
          guard try scanner.kind() == .array else { throw reader.wrong("Expecting 'instances' to be an list/array") }
          result = try reader.rows(&scanner, try reader.model.tensorFlowSignature(name))
        case "inputs":
          guard result == nil else { throw reader.both }
          result = try reader.columns(&scanner, try reader.model.tensorFlowSignature(name))
        default: try scanner.skipValue()
        }
      }
    }
    if let later {
      name = later
      return nil
    }
    guard let result else { throw ServingError(.invalidArgument, "Missing 'inputs' or 'instances' key") }
    return result
  }

  /// The signature's name, wherever it stands.
  func laterName() throws(ServingError) -> String? {
    var name: String?
    try body.scanJSON(maxDepth: limits.maxDepth) { scanner throws(ServingError) in
      try scanner.beginObject()
      while let key = try scanner.nextKey() {
        if key == "signature_name" { name = try signatureName(&scanner) } else { try scanner.skipValue() }
      }
    }
    return name
  }

  func signatureName(_ scanner: inout JSONScanner) throws(ServingError) -> String {
    guard try scanner.kind() == .string else {
      throw wrong("not formatted correctly. 'signature_name' key must be a string value.")
    }
    return try scanner.string()
  }

  // MARK: Row format

  func rows(_ scanner: inout JSONScanner, _ named: (name: String, signature: Signature)) throws(ServingError) -> PredictJSON {
    let signature = named.signature
    var ahead = scanner
    try ahead.beginArray()
    guard try ahead.nextElement() else { throw wrong("No values in 'instances' array") }
    var result = PredictJSON(signatureName: named.name, signature: signature, format: .row, inputs: [:])
    guard try isObject(&ahead) else {
      guard signature.inputs.count == 1 else {
        throw ServingError(
          .invalidArgument,
          "instances is a plain list, but expecting list of objects as multiple input tensors required as per tensorinfo_map")
      }
      // The list of instances is the tensor.
      let column = column(signature.inputs[0])
      let shape = try column.elements.append(from: &scanner)
      result.inputs[column.name] = try column.elements.tensor(shape)
      return result
    }
    let columns = signature.inputs.map { column($0) }
    try scanner.beginArray()
    var count = 0
    while try scanner.nextElement() {
      guard try isObject(&scanner) else {
        throw ServingError(.invalidArgument, "Expecting object but got list at item \(count) of input list")
      }
      try scanner.beginObject()
      while let key = try scanner.nextKey() {
        guard let column = columns.first(where: { $0.name == key }) else {
          throw failed(count, key, "JSON object: does not have named input: \(FormatError.excerpt(key))")
        }
        let shape: [Int]
        do throws(ServingError) { shape = try column.elements.append(from: &scanner) } catch {
          throw failed(count, key, error.message)
        }
        if count == 0 { column.shape = shape }
        guard shape == column.shape else {
          throw failed(count, key, "Expecting shape \(text(column.shape)) but got: \(text(shape))")
        }
        column.count += 1
      }
      count += 1
      guard columns.allSatisfy({ $0.count == count }) else {
        throw ServingError(
          .invalidArgument,
          "Failed to process element: \(count - 1) of 'instances' list. JSON object: keys must be equal to: "
            + columns.map(\.name).sorted().joined(separator: ","))
      }
    }
    for column in columns { result.inputs[column.name] = try column.elements.tensor([count] + column.shape) }
    return result
  }

  func failed(_ element: Int, _ key: String, _ message: String) -> ServingError {
    ServingError(
      .invalidArgument,
      "Failed to process element: \(element) key: \(FormatError.excerpt(key)) of 'instances' list. Error: INVALID_ARGUMENT: \(message)"
    )
  }

  func text(_ shape: [Int]) -> String { "[" + shape.map(String.init).joined(separator: ",") + "]" }

  /// Whether the next value is an object that does not stand for bytes.
  func isObject(_ scanner: inout JSONScanner) throws(ServingError) -> Bool {
    guard try scanner.kind() == .object else { return false }
    var ahead = scanner
    try ahead.beginObject()
    guard try ahead.nextKey() == "b64", try ahead.kind() == .string else { return true }
    try ahead.skipValue()
    return try ahead.nextKey() != nil
  }

  // MARK: Column format

  func columns(_ scanner: inout JSONScanner, _ named: (name: String, signature: Signature)) throws(ServingError) -> PredictJSON {
    let signature = named.signature
    var result = PredictJSON(signatureName: named.name, signature: signature, format: .column, inputs: [:])
    guard try isObject(&scanner) else {
      guard signature.inputs.count == 1 else {
        throw ServingError(
          .invalidArgument,
          "inputs is a plain value/list, but expecting an object as multiple input tensors required as per tensorinfo_map")
      }
      let column = column(signature.inputs[0])
      let shape = try column.elements.append(from: &scanner)
      result.inputs[column.name] = try column.elements.tensor(shape)
      return result
    }
    try scanner.beginObject()
    while let key = try scanner.nextKey() {
      guard let input = signature.inputs.first(where: { $0.name == key }) else {
        throw ServingError(
          .invalidArgument,
          "there is no input '\(FormatError.excerpt(key))'; there are "
            + signature.inputs.map { FormatError.excerpt($0.name) }.joined(separator: ", "))
      }
      let column = column(input)
      let shape = try column.elements.append(from: &scanner)
      result.inputs[key] = try column.elements.tensor(shape)
    }
    for input in signature.inputs where result.inputs[input.name] == nil {
      throw ServingError(.invalidArgument, "Missing named input: \(FormatError.excerpt(input.name)) in 'inputs' object.")
    }
    return result
  }

  // MARK: Common

  /// The elements of an input, read row by row.
  final class Column {
    let name: String
    var elements: JSONElements
    /// Of each row.
    var shape: [Int] = []
    /// Rows.
    var count = 0

    init(_ name: String, _ elements: consuming JSONElements) {
      self.name = name
      self.elements = elements
    }
  }

  func column(_ input: Signature.Input) -> Column {
    var expected = 1
    for case .fixed(let size) in input.spec.dimensions { expected = expected.multipliedReportingOverflow(by: size).partialValue }
    return Column(
      input.name,
      JSONElements(
        input.spec.elementType, name: input.name, expecting: max(0, expected), limit: model.configuration.maxRequestBytes,
        readsBytes: true))
  }

  var both: ServingError {
    wrong("Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist ")
  }

  /// An error that shows the beginning of the body, as TensorFlow Serving's do.
  func wrong(_ message: String) -> ServingError {
    let start = String(decoding: body.readableBytesView.prefix(256), as: UTF8.self)
    return ServingError(.invalidArgument, "JSON Value: \(start) \(message)")
  }
}

extension PredictJSON {
  /// The answer to a request in this format.
  /// - Throws: ``ServingError``, `invalidArgument`, if outputs cannot be given row by row.
  static func answer(_ outputs: [(name: String, tensor: Tensor)], _ format: Format) throws(ServingError) -> ByteBuffer {
    guard let first = outputs.first else { throw ServingError(.invalidArgument, "Cannot convert empty tensor map to JSON") }
    let bytes = outputs.reduce(0) { $0 + $1.tensor.shape.elementCount * 12 }
    var json = JSONWriter(.indented, capacity: min(bytes, 1 << 24) + 256)
    json.beginObject()
    switch format {
    case .column:
      json.key("outputs")
      if outputs.count == 1 {
        json.tensor(first.name, first.tensor)
      } else {
        json.beginObject()
        for (name, tensor) in outputs {
          json.key(name)
          json.tensor(name, tensor)
        }
        json.endObject()
      }
    case .row:
      for (name, tensor) in outputs {
        guard !tensor.shape.isEmpty else {
          throw ServingError(.invalidArgument, "Tensor name: \(name) has no shape information ")
        }
        guard tensor.shape[0] == first.tensor.shape[0] else {
          throw ServingError(
            .invalidArgument,
            "Tensor name: \(name) has inconsistent batch size: \(tensor.shape[0]) expecting: \(first.tensor.shape[0])")
        }
      }
      json.key("predictions")
      json.beginArray()
      if outputs.count == 1 {
        json.listsOnOneLine = true
        if json.isBytes(first.name, first.tensor) {
          json.rows(first.tensor) { $0.base64($1) }
        } else {
          json.items(of: first.tensor, style: .sixDigits)
        }
        json.listsOnOneLine = false
      } else {
        for row in 0..<first.tensor.shape[0] {
          json.beginObject()
          json.listsOnOneLine = true
          for (name, tensor) in outputs {
            json.key(name)
            json.row(row, name, tensor)
          }
          json.listsOnOneLine = false
          json.endObject()
        }
      }
      json.endArray()
    }
    json.endObject()
    return json.buffer
  }
}

extension JSONWriter {
  /// Whether an output is given as Base64: TensorFlow's sign is the name.
  fileprivate func isBytes(_ name: String, _ tensor: Tensor) -> Bool {
    tensor.elementType == .uint8 && name.hasSuffix("_bytes") && !tensor.shape.isEmpty
  }

  /// A whole output.
  fileprivate mutating func tensor(_ name: String, _ tensor: Tensor) {
    // TensorFlow Serving keeps each list of this format on a line of its own; a line for each number would be most of the answer.
    listsOnOneLine = true
    if isBytes(name, tensor) {
      if tensor.shape.count == 1 {
        tensor.withUnsafeBytes { base64($0) }
      } else {
        beginArray()
        rows(tensor) { $0.base64($1) }
        endArray()
      }
    } else {
      elements(of: tensor, style: .sixDigits)
    }
    listsOnOneLine = false
  }

  /// One row of an output.
  fileprivate mutating func row(_ index: Int, _ name: String, _ tensor: Tensor) {
    let shape = Array(tensor.shape)
    tensor.withUnsafeBytes { bytes in
      let stride = bytes.count / max(1, shape[0])
      let part = UnsafeRawBufferPointer(rebasing: bytes[index * stride..<(index + 1) * stride])
      if isBytes(name, tensor) { base64(part) } else { elements(part, tensor.elementType, shape: shape[1...], style: .sixDigits) }
    }
  }

  /// Calls `body` with each row's bytes.
  fileprivate mutating func rows(_ tensor: Tensor, _ body: (inout JSONWriter, UnsafeRawBufferPointer) -> Void) {
    let count = tensor.shape[0]
    tensor.withUnsafeBytes { bytes in
      let stride = bytes.count / max(1, count)
      for i in 0..<count { body(&self, UnsafeRawBufferPointer(rebasing: bytes[i * stride..<(i + 1) * stride])) }
    }
  }
}
