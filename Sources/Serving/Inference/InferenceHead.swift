import ApusExport
import ApusFormats
import ApusServables
import ApusTensor

/// The JSON of a request, read once from front to back; elements of tensors go from the text to their memory.
struct InferenceHead {
  /// What one input says before its data is looked at.
  private struct Input {
    var name: String?
    var datatype: String?
    var shape: [Int]?
    /// Bytes after the JSON.
    var binarySize: Int?
    /// Where its data begins in the text, if that came before what is needed to read it.
    var dataStart: Int?
    var isDone = false
  }

  private let limits: ServingLimits
  private let bytes: UnsafeRawBufferPointer
  private var scanner: JSONScanner
  private var data: BodyChunks.Reader
  private var gathering: InputGathering
  private var id = ""
  private var parameters = RequestParameters()
  private var outputs: [RequestedOutput]?

  /// Reads a request.
  /// - Parameters:
  ///   - bytes: the JSON.
  ///   - data: what follows it.
  ///   - context: told of a request that is refused.
  /// - Throws: ``ServingError``, saying which input or output is wrong, or where the text is not JSON.
  static func prepare(
    _ bytes: UnsafeRawBufferPointer, _ data: BodyChunks.Reader, for model: ServedModel, limits: ServingLimits,
    arrived: ContinuousClock.Instant
  ) throws(ServingError) -> (prepared: PreparedInference, isBinaryOutput: Bool) {
    var wanted: String?
    // Which signature the inputs are for may be said after them.
    if model.servable.signatures.count > 1 {
      wanted = try signatureName(JSONScanner(bytes, maxDepth: limits.maxDepth))
    }
    let (name, signature) = try model.signature(wanted)
    var head = InferenceHead(bytes, data, InputGathering(model, signature), limits)
    try head.read()
    let prepared = try PreparedInference(
      head.gathering, signature: name, id: head.id, parameters: head.parameters, outputs: head.outputs, arrived: arrived)
    return (prepared, head.parameters.isBinaryOutput)
  }

  private init(
    _ bytes: UnsafeRawBufferPointer, _ data: BodyChunks.Reader, _ gathering: InputGathering, _ limits: ServingLimits
  ) {
    (self.bytes, self.data, self.gathering, self.limits) = (bytes, data, gathering, limits)
    scanner = JSONScanner(bytes, maxDepth: limits.maxDepth)
  }

  private func invalid(_ message: String) -> ServingError { ServingError(.invalidArgument, message) }

  private static func signatureName(_ scanner: JSONScanner) throws(ServingError) -> String? {
    var scanner = scanner
    try scanner.beginObject()
    while let key = try scanner.nextKey() {
      guard key == "parameters" else {
        try scanner.skipValue()
        continue
      }
      return try scanner.value().object?["signature_name"]?.string
    }
    return nil
  }

  private mutating func read() throws(ServingError) {
    try scanner.beginObject()
    var hasInputs = false
    while let key = try scanner.nextKey() {
      switch key {
      case "id": id = try scanner.string()
      case "parameters":
        for (key, value) in try members() { try parameters.set(key, value) }
      case "inputs":
        hasInputs = true
        try scanner.beginArray()
        var count = 0
        while try scanner.nextElement() {
          count += 1
          guard count <= limits.maxTensors else { throw invalid("more than \(limits.maxTensors) inputs") }
          try input(count - 1)
        }
      case "outputs":
        var wanted: [RequestedOutput] = []
        try scanner.beginArray()
        while try scanner.nextElement() {
          guard wanted.count < limits.maxTensors else { throw invalid("more than \(limits.maxTensors) outputs") }
          wanted.append(try output(wanted.count))
        }
        // No output at all would be nothing to ask for: an empty list means all, as in gRPC.
        outputs = wanted.isEmpty ? nil : wanted
      default: try scanner.skipValue()
      }
    }
    try scanner.finish()
    guard hasInputs else { throw invalid("the request has no 'inputs'") }
    guard data.left == 0 else { throw invalid("\(data.left) bytes follow those that belong to inputs") }
  }

  /// The members of an object of parameters; what is no scalar has no value.
  private mutating func members() throws(ServingError) -> [(String, Parameter?)] {
    var result: [(String, Parameter?)] = []
    try scanner.beginObject()
    while let key = try scanner.nextKey() {
      var value: Parameter?
      switch try scanner.kind() {
      case .bool: value = .bool(try scanner.bool())
      case .string: value = .string(try scanner.string())
      case .number:
        let tree = try scanner.value()
        value = tree.integer.map { .integer($0) } ?? tree.number.map { .number($0) }
      case .object, .array, .null: try scanner.skipValue()
      }
      result.append((key, value))
    }
    return result
  }

  private mutating func output(_ index: Int) throws(ServingError) -> RequestedOutput {
    var name: String?
    var parameters: [(String, Parameter?)] = []
    try scanner.beginObject()
    while let key = try scanner.nextKey() {
      switch key {
      case "name": name = try scanner.string()
      case "parameters": parameters = try members()
      default: try scanner.skipValue()
      }
    }
    guard let name else { throw invalid("output \(index) has no 'name'") }
    var output = RequestedOutput(name: name)
    for (key, value) in parameters { try output.set(key, value) }
    return output
  }

  private mutating func input(_ index: Int) throws(ServingError) {
    var input = Input()
    try scanner.beginObject()
    while let key = try scanner.nextKey() {
      switch key {
      case "name": input.name = try scanner.string()
      case "datatype": input.datatype = try scanner.string()
      case "shape": input.shape = try shape()
      case "parameters":
        for (key, value) in try members() {
          switch key {
          case "binary_data_size":
            guard case .integer(let size) = value, size >= 0 else {
              throw invalid("input \(index): the parameter 'binary_data_size' must be a number of bytes")
            }
            input.binarySize = size
          case "shared_memory_region": throw noSharedMemory
          default: break
          }
        }
      case "data":
        guard input.name != nil, input.datatype != nil, input.shape != nil else {
          _ = try scanner.kind()
          input.dataStart = scanner.index
          try scanner.skipValue()
          continue
        }
        var inner = scanner
        try elements(input, &inner)
        scanner = inner
        input.isDone = true
      default: try scanner.skipValue()
      }
    }
    guard let name = input.name else { throw invalid("input \(index) has no 'name'") }
    guard let datatype = input.datatype else { throw invalid("input \(quoted(name)) has no 'datatype'") }
    guard let shape = input.shape else { throw invalid("input \(quoted(name)) has no 'shape'") }
    if let size = input.binarySize {
      guard !input.isDone, input.dataStart == nil else {
        throw invalid("input \(quoted(name)) has both 'data' and 'binary_data_size'")
      }
      return try binary(name, try Datatype(datatype, input: name), shape, size)
    }
    if input.isDone { return }
    guard let start = input.dataStart else { throw invalid("input \(quoted(name)) has neither 'data' nor 'binary_data_size'") }
    var earlier = JSONScanner(bytes, maxDepth: limits.maxDepth)
    earlier.cursor.index = start
    try elements(input, &earlier)
  }

  private mutating func shape() throws(ServingError) -> [Int] {
    var result: [Int] = []
    try scanner.beginArray()
    while try scanner.nextElement() {
      let size = try scanner.integer()
      // More than any tensor has are refused when they are compared with the signature's.
      if result.count < 64 { result.append(size) }
    }
    return result
  }

  /// Copies an input's bytes from behind the JSON.
  private mutating func binary(_ name: String, _ datatype: Datatype, _ shape: [Int], _ size: Int) throws(ServingError) {
    guard size <= data.left else {
      throw invalid("input \(quoted(name)): 'binary_data_size' is \(size), but only \(data.left) bytes are left in the body")
    }
    var reader = data
    switch datatype {
    case .numbers(let type):
      let slot = try gathering.slot(name, type, shape: shape)
      guard size == slot.byteCount else {
        throw invalid(
          "unexpected total byte size \(size) for input \(quoted(name)), expecting \(slot.byteCount) for shape "
            + "\(listed(shape)) of \(datatype.name)")
      }
      try gathering.add(slot) { (memory) throws(ServingError) in reader.copy(into: memory) }
    case .bytes:
      let bytes = [UInt8](unsafeUninitializedCapacity: size) { buffer, count in
        reader.copy(into: UnsafeMutableRawBufferPointer(start: buffer.baseAddress, count: size))
        count = size
      }
      try bytes.withUnsafeBufferPointer { (bytes) throws(ServingError) in
        try gathering.addRaw(name, .bytes, shape: shape, UnsafeRawBufferPointer(bytes))
      }
    }
    data = reader
  }

  /// Reads an input's elements, flat or nested as its shape.
  private mutating func elements(_ input: Input, _ scanner: inout JSONScanner) throws(ServingError) {
    guard let name = input.name, let datatypeName = input.datatype, let shape = input.shape else { return }
    func check(_ found: [Int], _ shape: [Int]) throws(ServingError) {
      let count = found.reduce(1) { $0 &* $1 }
      let expected = try checkedCount(shape, input: name)
      guard count == expected else {
        throw invalid("input \(quoted(name)): shape \(listed(shape)) has \(expected) elements, 'data' \(count)")
      }
      guard found == shape || found.count <= 1 else {
        throw invalid("input \(quoted(name)): 'data' is nested as \(listed(found)), but the shape is \(listed(shape))")
      }
    }
    switch try Datatype(datatypeName, input: name) {
    case .numbers(let type):
      let slot = try gathering.slot(name, type, shape: shape)
      var elements = JSONElements(type, name: name, expecting: slot.shape.elementCount, limit: slot.byteCount)
      try check(try elements.append(from: &scanner), shape)
      try gathering.add(slot) { (memory) throws(ServingError) in elements.withUnsafeBytes { memory.copyMemory(from: $0) } }
    case .bytes:
      let limit = gathering.model.configuration.maxRequestBytes
      var elements = JSONElements(.uint8, name: name, limit: limit, readsBytes: true)
      let found = try elements.append(from: &scanner)
      // An empty list has no string to take a length from.
      try check(found == [0] ? found : found.dropLast(), shape)
      let length = found == [0] ? 0 : found.last ?? 0
      let slot = try gathering.slot(name, stringsOf: length, shape: shape)
      try gathering.add(slot) { (memory) throws(ServingError) in elements.withUnsafeBytes { memory.copyMemory(from: $0) } }
    }
  }
}
