import ApusExport
import ApusFormats
import ApusTensor

/// Requests by which a version is made ready before it takes traffic.
enum WarmUp {
  struct Request: Sendable {
    var signature: String?
    var inputs: [String: Tensor]
  }

  /// As many as TensorFlow Serving takes.
  static let limit = 1_000
  static let ownFile = "assets.extra/warmup.json"
  static let tensorFlowFile = "assets.extra/tf_serving_warmup_requests"

  /// Runs the requests that the configuration wants on the calling thread.
  /// - Returns: nil if there were none.
  /// - Throws: ``ServingError``: a request failed, or the file with them is not what it should be.
  static func run(
    _ servable: any Servable, _ files: VersionFiles, _ configuration: ModelConfiguration, _ scheduling: SchedulingOptions,
    log: RepositoryOptions.WarmUpLog? = nil
  ) throws(ServingError) -> WarmUpResult? {
    guard configuration.warmUp != .none else { return nil }
    let start = ContinuousClock.now
    var count = 0
    func run(_ request: Request) throws(ServingError) {
      do throws(ServingError) {
        _ = try servable.run(request.inputs, signature: request.signature ?? servable.defaultSignature)
      } catch {
        throw ServingError(code(of: error), "warm-up request \(count + 1) failed: \(error.message)")
      }
      count += 1
    }
    if fileKind(files.folder + "/" + ownFile) != nil {
      for request in try recorded(files.folder + "/" + ownFile, servable) { try run(request) }
    } else if fileKind(files.folder + "/" + tensorFlowFile) != nil {
      for request in try tensorFlow(files.folder + "/" + tensorFlowFile, servable, log) { try run(request) }
    } else if configuration.warmUp == .generated {
      for request in try generated(servable, scheduling) { try run(request) }
    }
    return count == 0 ? nil : WarmUpResult(requests: count, duration: .now - start)
  }

  /// A failed warm-up is the version's failure, not that of a request: trying again does not help, and the files are complete.
  private static func code(of error: ServingError) -> ServingError.Code {
    switch error.code {
    case .failedPrecondition, .unavailable: .internalError
    default: error.code
    }
  }

  // MARK: Made up

  /// Zeros at the smallest sizes, and at those that batches may have.
  static func generated(_ servable: any Servable, _ scheduling: SchedulingOptions) throws(ServingError) -> [Request] {
    var requests: [Request] = []
    for (name, signature) in servable.signatures.sorted(by: { $0.key < $1.key }) {
      var sizes: [String: Int] = [:]
      for dimension in signature.openDimensions { sizes[dimension.name] = max(1, dimension.sizes.lowerBound) }
      let batch = batchDimension(of: signature)
      var batches = batch.flatMap { name in sizes[name].map { [$0] } } ?? [1]
      if let batching = scheduling.batching, let batch,
        let bounds = signature.openDimensions.first(where: { $0.name == batch })?.sizes
      {
        batches += (batching.allowedBatchSizes + batching.preferredBatchSizes).filter { bounds.contains($0) }
        // Else each size is planned while requests of that size wait.
        batches += Scheduler.batchSizes(of: servable, signature: name, scheduling)
      }
      for size in Set(batches).sorted().prefix(16) {
        if let batch { sizes[batch] = size }
        var inputs: [String: Tensor] = [:]
        for input in signature.inputs {
          let shape = input.spec.dimensions.map { dimension -> Int in
            switch dimension {
            case .fixed(let size): size
            case .open(let name, _): sizes[name] ?? 1
            }
          }
          inputs[input.name] = try zeros(shape, input.spec.elementType, input.name)
        }
        requests.append(Request(signature: name, inputs: inputs))
      }
    }
    return requests
  }

  /// The open dimension that all inputs begin with.
  private static func batchDimension(of signature: Signature) -> String? {
    var found: String?
    for input in signature.inputs {
      guard case .open(let name, _)? = input.spec.dimensions.first, found == nil || found == name else { return nil }
      found = name
    }
    return found
  }

  /// The bytes of a tensor, if a warm-up request may have so many.
  static func byteCount(_ shape: [Int], _ type: ElementType, _ input: String) throws(ServingError) -> Int {
    var bytes = type.byteSize
    for size in shape {
      let (product, isMore) = bytes.multipliedReportingOverflow(by: size)
      guard size >= 0, !isMore, product <= 1 << 30 else {
        throw ServingError(.invalidArgument, "warm-up: the input '\(FormatError.excerpt(input))' would have more than 2^30 bytes")
      }
      bytes = product
    }
    guard shape.count <= Shape.maxRank else {
      throw ServingError(.invalidArgument, "warm-up: the input '\(FormatError.excerpt(input))' has \(shape.count) dimensions")
    }
    return bytes
  }

  static func zeros(_ shape: [Int], _ type: ElementType, _ input: String) throws(ServingError) -> Tensor {
    _ = try byteCount(shape, type, input)
    return Tensor.zeros(Shape(shape), type)
  }

  // MARK: Recorded

  /// The requests in a file of ours: `{"requests": [{"signature_name", "count", "inputs": [{"name", "shape", "data"}]}]}`, tensors as in the Open
  /// Inference Protocol. Without data they are zeros, without a shape the smallest.
  static func recorded(_ path: String, _ servable: any Servable) throws(ServingError) -> [Request] {
    let bytes = try FileContents.read(path, limit: 1 << 26)
    let json: JSONValue
    do throws(FormatError) {
      json = try JSONValue(parsing: bytes, file: path, limits: JSONLimits(depth: 16, values: 10_000_000))
    } catch { throw ServingError(.invalidArgument, "warm-up: \(error.description)") }
    let root = try SettingsReader(json, file: path, part: "")
    try root.allow(["requests"])
    guard let list = root.object["requests"]?.array else { throw root.error("requests", "must be a list of requests") }
    var requests: [Request] = []
    for (i, value) in list.enumerated() {
      let reader = try SettingsReader(value, file: path, part: "requests[\(i)]")
      try reader.allow(["signature_name", "count", "inputs"])
      let name = try reader.string("signature_name") ?? servable.defaultSignature
      guard let name, let signature = servable.signatures[name] else {
        throw reader.error("signature_name", "must be one of \(servable.signatures.keys.sorted().joined(separator: ", "))")
      }
      guard let tensors = reader.object["inputs"]?.array else { throw reader.error("inputs", "must be a list of tensors") }
      var inputs: [String: Tensor] = [:]
      for (j, value) in tensors.enumerated() {
        let reader = try SettingsReader(value, file: path, part: "requests[\(i)].inputs[\(j)]")
        try reader.allow(["name", "shape", "datatype", "data"])
        let known = signature.inputs.map(\.name)
        guard let name = try reader.string("name"), let input = signature.inputs.first(where: { $0.name == name }) else {
          throw reader.error("name", "must be one of \(known.joined(separator: ", "))")
        }
        inputs[name] = try tensor(reader, input)
      }
      let count = try reader.integer("count", in: 1...limit) ?? 1
      guard requests.count + count <= limit else { throw root.error("requests", "has more than \(limit) requests") }
      for _ in 0..<count { requests.append(Request(signature: name, inputs: inputs)) }
    }
    return requests
  }

  private static func tensor(_ reader: SettingsReader, _ input: Signature.Input) throws(ServingError) -> Tensor {
    let type = input.spec.elementType
    let shape =
      try reader.integers("shape", in: 0...(1 << 40))
      ?? input.spec.dimensions.map { dimension in
        switch dimension {
        case .fixed(let size): size
        case .open(_, let sizes): max(1, sizes.lowerBound)
        }
      }
    let bytes = try byteCount(shape, type, input.name)
    guard reader.has("data") else { return try zeros(shape, type, input.name) }
    guard let list = reader.object["data"]?.array else { throw reader.error("data", "must be a list") }
    var numbers: [Double] = []
    var integers: [Int64] = []
    func visit(_ values: [JSONValue]) throws(ServingError) {
      for value in values {
        switch value {
        case .array(let inner): try visit(inner)
        case .integer(let number):
          integers.append(Int64(number))
          numbers.append(Double(number))
        case .number(let number):
          integers.append(Int64(exactly: number) ?? 0)
          numbers.append(number)
        case .bool(let flag):
          integers.append(flag ? 1 : 0)
          numbers.append(flag ? 1 : 0)
        case .null, .string, .object: throw reader.error("data", "must have numbers")
        }
      }
    }
    try visit(list)
    guard numbers.count == bytes / type.byteSize else {
      throw reader.error("data", "has \(numbers.count) elements, but the shape \(shape) takes \(bytes / type.byteSize)")
    }
    if type.isFloatingPoint { return Tensor(numbers, shape: Shape(shape)).converted(to: type) }
    return Tensor(integers, shape: Shape(shape)).converted(to: type)
  }
}
