import ApusExport
import ApusServables
import ApusTensor

/// A request whose tensors are there, and what its answer should look like.
struct PreparedInference: Sendable {
  var model: ServedModel
  var request: InferenceRequest
  /// nil: all outputs of the signature.
  var outputs: [RequestedOutput]?
}

/// An output that a request names.
struct RequestedOutput: Sendable {
  var name: String
  /// Whether it comes as bytes after the JSON; nil: as the request says for all.
  var isBinary: Bool?
  /// How many of the best classes it is reduced to; 0: it comes as it is.
  var classes = 0
}

/// What a request, input or output says beside its data.
enum Parameter: Sendable, Hashable {
  case bool(Bool)
  case integer(Int)
  case number(Double)
  case string(String)
}

/// The parameters of a request that mean something here; others are ignored, as models may have their own.
struct RequestParameters: Sendable {
  /// How long the client wants to wait.
  var timeout: Duration?
  var priority: Int?
  /// Whether outputs come as bytes after the JSON where the request does not say it of each.
  var isBinaryOutput = false
  /// Which of the model's signatures is meant.
  var signature: String?
  /// Whether the answer in a stream says that it is the request's last one.
  var wantsFinalMark = false

  mutating func set(_ key: String, _ value: Parameter?) throws(ServingError) {
    func wrong(_ expected: String) -> ServingError {
      ServingError(.invalidArgument, "the parameter '\(key)' of the request must be \(expected)")
    }
    switch key {
    case "timeout":
      guard case .integer(let micros) = value, micros >= 0 else { throw wrong("a number of microseconds") }
      timeout = micros == 0 ? nil : .microseconds(min(micros, 1 << 50))
    case "priority":
      guard case .integer(let level) = value, level >= 0 else { throw wrong("an integer from 0") }
      priority = level == 0 ? nil : level
    case "binary_data_output":
      guard case .bool(let flag) = value else { throw wrong("true or false") }
      isBinaryOutput = flag
    case "signature_name":
      guard case .string(let name) = value else { throw wrong("a string") }
      signature = name
    case "triton_enable_empty_final_response":
      guard case .bool(let flag) = value else { throw wrong("true or false") }
      wantsFinalMark = flag
    case "sequence_id":
      guard value == .integer(0) || value == .string("") else {
        throw ServingError(.unimplemented, "the parameter 'sequence_id': models here keep no state between requests")
      }
    default: break
    }
  }
}

extension RequestedOutput {
  mutating func set(_ key: String, _ value: Parameter?) throws(ServingError) {
    func wrong(_ expected: String) -> ServingError {
      ServingError(.invalidArgument, "the parameter '\(key)' of output \(quoted(name)) must be \(expected)")
    }
    switch key {
    case "binary_data":
      guard case .bool(let flag) = value else { throw wrong("true or false") }
      isBinary = flag
    case "classification":
      guard case .integer(let count) = value, count >= 0 else { throw wrong("a number of classes") }
      classes = count
    case "shared_memory_region": throw noSharedMemory
    default: break
    }
  }
}

let noSharedMemory = ServingError(.unimplemented, "shared memory is not supported; send tensors in the request")

extension PreparedInference {
  /// Puts a request together when its inputs are there.
  /// - Throws: ``ServingError`` if an output is not one of the model's.
  init(
    _ gathered: InputGathering, signature: String, id: String, parameters: RequestParameters, outputs: [RequestedOutput]?,
    arrived: ContinuousClock.Instant
  ) throws(ServingError) {
    model = gathered.model
    self.outputs = outputs
    var names = Set<String>()
    for output in outputs ?? [] {
      guard gathered.signature.outputs.contains(where: { $0.name == output.name }) else {
        throw ServingError(
          .invalidArgument, "unexpected inference output \(quoted(output.name)) for model \(quoted(gathered.model.name))")
      }
      guard names.insert(output.name).inserted else {
        throw ServingError(.invalidArgument, "inference output \(quoted(output.name)) is requested twice")
      }
    }
    request = InferenceRequest(
      id: id, signature: signature, inputs: try gathered.finish(), outputs: outputs?.map(\.name), priority: parameters.priority,
      deadline: parameters.timeout.map { arrived + $0 })
  }

  /// The outputs as they leave, in the order they were asked for.
  func answer(_ response: InferenceResponse, isBinary: Bool) throws(ServingError) -> [OutputTensor] {
    guard let outputs else {
      return response.outputs.map { OutputTensor($0.name, $0.tensor, isBinary: isBinary) }
    }
    var result: [OutputTensor] = []
    for wanted in outputs {
      guard let (_, tensor) = response.outputs.first(where: { $0.name == wanted.name }) else {
        throw ServingError(.internalError, "the model gave no output \(quoted(wanted.name))")
      }
      let binary = wanted.isBinary ?? isBinary
      if wanted.classes > 0 {
        let labels = model.configuration.classLabels ?? model.servable.classLabels
        result.append(OutputTensor(wanted.name, bestOf: tensor, wanted.classes, labels: labels, isBinary: binary))
      } else {
        result.append(OutputTensor(wanted.name, tensor, isBinary: binary))
      }
    }
    return result
  }
}

/// An output as it leaves.
struct OutputTensor: Sendable {
  enum Values: Sendable {
    case tensor(Tensor)
    case strings([String])
  }

  var name: String
  var datatype: String
  var shape: [Int]
  var values: Values
  var isBinary: Bool

  init(_ name: String, _ tensor: Tensor, isBinary: Bool) {
    (self.name, self.isBinary, values) = (name, isBinary, .tensor(tensor))
    datatype = tensor.elementType.inferenceName
    shape = Array(tensor.shape)
  }

  /// The `count` highest values of each example and where they are, as `value:index` or `value:index:label`. The first dimension is
  /// that of examples if there are several.
  init(_ name: String, bestOf tensor: Tensor, _ count: Int, labels: [String]?, isBinary: Bool) {
    let rows = tensor.rank > 1 ? tensor.shape[0] : 1
    let columns = rows == 0 ? 0 : tensor.count / rows
    let kept = min(count, columns)
    let scores = tensor.elements(as: Double.self)
    var strings: [String] = []
    for row in 0..<rows {
      let line = scores[row * columns..<(row + 1) * columns]
      // NaN is no score: it comes last.
      let order = line.indices.sorted { a, b in
        let (x, y) = (line[a].isNaN ? -.infinity : line[a], line[b].isNaN ? -.infinity : line[b])
        return x != y ? x > y : a < b
      }
      for index in order.prefix(kept) {
        let place = index - row * columns
        let label = labels.flatMap { place < $0.count ? ":" + $0[place] : nil } ?? ""
        strings.append(fixedPoint(line[index]) + ":\(place)" + label)
      }
    }
    (self.name, self.isBinary, values, datatype) = (name, isBinary, .strings(strings), "BYTES")
    shape = tensor.rank > 1 ? [rows, kept] : [kept]
  }

  /// How many bytes the binary form has.
  var byteCount: Int {
    switch values {
    case .tensor(let tensor): tensor.count * tensor.elementType.byteSize
    case .strings(let strings): strings.reduce(0) { $0 + 4 + $1.utf8.count }
    }
  }

  /// Writes the binary form over exactly ``byteCount`` bytes.
  func write(to memory: UnsafeMutableRawBufferPointer) {
    switch values {
    case .tensor(let tensor): tensor.withUnsafeBytes { memory.copyMemory(from: $0) }
    case .strings(let strings):
      var position = 0
      for string in strings {
        memory.storeBytes(of: UInt32(string.utf8.count).littleEndian, toByteOffset: position, as: UInt32.self)
        position += 4
        for byte in string.utf8 {
          memory[position] = byte
          position += 1
        }
      }
    }
  }
}

/// A number with six digits after the point, as C's `%f` and so Triton writes scores.
private func fixedPoint(_ value: Double) -> String {
  guard value.isFinite else { return value.isNaN ? "nan" : value < 0 ? "-inf" : "inf" }
  guard abs(value) < 1e12 else { return "\(value)" }
  let millionths = Int((abs(value) * 1e6).rounded(.toNearestOrEven))
  let digits = String(millionths % 1_000_000)
  let sign = value.sign == .minus ? "-" : ""
  return sign + "\(millionths / 1_000_000)." + String(repeating: "0", count: 6 - digits.count) + digits
}

extension ModelRepository {
  /// The model that a request names, with Triton's words where there is none.
  /// - Parameter version: as clients give it: a number, or empty for the latest.
  func inferenceModel(_ name: String, version: String) throws(ServingError) -> ServedModel {
    if version.isEmpty {
      do throws(ServingError) { return try model(name) } catch {
        guard error.code == .notFound else { throw error }
        throw ServingError(.notFound, "Request for unknown model: \(quoted(name)) is not found")
      }
    }
    guard let number = Int(version), number >= 0 else {
      throw ServingError(
        .invalidArgument,
        "failed to get model version from specified version string \(quoted(version)), version should be an integer value > 0")
    }
    do throws(ServingError) { return try model(name, version: .number(number)) } catch {
      guard error.code == .notFound else { throw error }
      throw ServingError(.notFound, "Request for unknown model: \(quoted(name)) version \(number) is not found")
    }
  }
}

extension ServingContext {
  /// Notes a request that was refused before it reached its model.
  func refused(
    _ model: ServedModel, id: String, api: RequestRecord.API, arrived: ContinuousClock.Instant, _ error: ServingError
  ) {
    var record = RequestRecord(api: api, id: id, model: model.name, version: model.version, arrived: arrived)
    record.total = .now - arrived
    record.parse = record.total
    record.error = error
    model.statistics.failed(error.code, total: record.total)
    journal.note(record)
  }
}
