import ApusExport
import ApusFormats
import ApusServables
import ApusTensor
import HTTPTypes
import Hummingbird
import NIOCore

extension HTTPField.Name {
  /// How many bytes of a body are JSON; the bytes of tensors follow.
  static let inferenceHeaderContentLength = HTTPField.Name("Inference-Header-Content-Length")!
}

extension InferenceRoutes {
  func infer(_ request: Request, model name: String, version: String) async -> Response {
    let arrived = ContinuousClock.now
    do throws(ServingError) {
      let model = try context.repository.inferenceModel(name, version: version)
      let call: RESTCall
      do throws(ServingError) {
        call = try await prepare(request, model, arrived)
      } catch {
        context.refused(model, id: "", api: .inferenceREST, arrived: arrived, error)
        throw error
      }
      let response = try await context.infer(model, call.prepared.request, api: .inferenceREST, arrived: arrived)
      let outputs = try call.prepared.answer(response, isBinary: call.isBinaryOutput)
      return encode(outputs, of: call.prepared, accepting: request.headers[.acceptEncoding])
    } catch {
      var response = Answer.error(error)
      // A body that is too long has a status of its own in HTTP.
      if error.code == .outOfRange { response.status = .contentTooLarge }
      return response
    }
  }

  private struct RESTCall {
    var prepared: PreparedInference
    var isBinaryOutput: Bool
  }

  /// Reads a request's body and makes its tensors.
  private func prepare(
    _ request: Request, _ model: ServedModel, _ arrived: ContinuousClock.Instant
  ) async throws(ServingError) -> RESTCall {
    let body = try await request.bodyChunks(upTo: context.limits.maxBodyBytes)
    var length = body.count
    if let text = request.headers[.inferenceHeaderContentLength] {
      guard text.utf8.allSatisfy({ UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0 }), let declared = Int(text) else {
        throw ServingError(.invalidArgument, "Inference-Header-Content-Length is \(quoted(text)), not a number of bytes")
      }
      guard declared <= body.count else {
        throw ServingError(
          .invalidArgument, "Inference-Header-Content-Length is \(declared), but the body has \(body.count) bytes")
      }
      if declared == 0 { return try raw(body, model, arrived) }
      length = declared
    }
    let limits = context.limits
    var data = BodyChunks.Reader(body)
    data.skip(length)
    let rest = data
    return try body.withPrefix(length) { (bytes) throws(ServingError) in
      let (prepared, isBinary) = try InferenceHead.prepare(bytes, rest, for: model, limits: limits, arrived: arrived)
      return RESTCall(prepared: prepared, isBinaryOutput: isBinary)
    }
  }

  /// A body that is the bytes of the model's only input.
  private func raw(
    _ body: BodyChunks, _ model: ServedModel, _ arrived: ContinuousClock.Instant
  ) throws(ServingError) -> RESTCall {
    let (name, signature) = try model.signature(nil)
    guard signature.inputs.count == 1, let input = signature.inputs.first else {
      throw ServingError(
        .invalidArgument,
        "Raw request must only have 1 input (found \(signature.inputs.count)) to be deduced from the model")
    }
    // One open size, where it stands once, is what the number of bytes makes it.
    var known = input.spec.elementType.byteSize
    var open: Int?
    for (axis, dimension) in input.spec.dimensions.enumerated() {
      switch dimension {
      case .fixed(let size): known *= size
      case .open:
        guard open == nil else {
          throw ServingError(
            .invalidArgument, "Raw request: the shape of input \(quoted(input.name)) has several open sizes; send a header")
        }
        open = axis
      }
    }
    var shape = input.spec.dimensions.map(\.inferenceSize)
    if let open { shape[open] = known == 0 ? 0 : body.count / known }
    var gathering = InputGathering(model, signature)
    let slot = try gathering.slot(input.name, input.spec.elementType, shape: shape)
    guard slot.byteCount == body.count else {
      throw ServingError(
        .invalidArgument,
        "Raw request: \(body.count) bytes do not fill input \(quoted(input.name)), \(input.spec)")
    }
    var reader = BodyChunks.Reader(body)
    try gathering.add(slot) { (memory) throws(ServingError) in reader.copy(into: memory) }
    let prepared = try PreparedInference(
      gathering, signature: name, id: "", parameters: .init(), outputs: nil, arrived: arrived)
    return RESTCall(prepared: prepared, isBinaryOutput: true)
  }

  // MARK: Answer

  private func encode(_ outputs: [OutputTensor], of prepared: PreparedInference, accepting encodings: String?) -> Response {
    let isBinary = outputs.contains(where: \.isBinary)
    let binaryBytes = outputs.reduce(0) { $0 + ($1.isBinary ? $1.byteCount : 0) }
    var body = head(outputs, of: prepared, room: binaryBytes)
    var headers = HTTPFields()
    headers[.contentType] = isBinary ? "application/octet-stream" : "application/json"
    if isBinary {
      headers[.inferenceHeaderContentLength] = "\(body.readableBytes)"
      for output in outputs where output.isBinary {
        let size = output.byteCount
        body.writeWithUnsafeMutableBytes(minimumWritableBytes: size) { memory in
          output.write(to: UnsafeMutableRawBufferPointer(rebasing: memory[..<size]))
          return size
        }
      }
    }
    // Only for who asks for nothing else: compressing costs more time than most answers take, and many clients say by themselves
    // that they would understand it.
    switch encodings?.lowercased() {
    case "gzip":
      headers[.contentEncoding] = "gzip"
      body = ByteBuffer(bytes: body.withUnsafeReadableBytes { Gzip.compress($0) })
    case "deflate":
      headers[.contentEncoding] = "deflate"
      body = ByteBuffer(bytes: body.withUnsafeReadableBytes { Zlib.compress($0) })
    default: break
    }
    return Response(status: .ok, headers: headers, body: ResponseBody(byteBuffer: body))
  }

  /// The JSON of an answer, in a buffer with room for `room` bytes more.
  private func head(_ outputs: [OutputTensor], of prepared: PreparedInference, room: Int) -> ByteBuffer {
    let elements = outputs.reduce(0) { $0 + ($1.isBinary ? 0 : $1.shape.reduce(1, *)) }
    var json = JSONWriter(capacity: 256 * (outputs.count + 1) + elements * 12 + room)
    json.beginObject()
    json.key("model_name")
    json.string(prepared.model.name)
    json.key("model_version")
    json.string("\(prepared.model.version)")
    if !prepared.request.id.isEmpty {
      json.key("id")
      json.string(prepared.request.id)
    }
    json.key("outputs")
    json.beginArray()
    for output in outputs {
      json.beginObject()
      json.key("name")
      json.string(output.name)
      json.key("datatype")
      json.string(output.datatype)
      json.key("shape")
      json.beginArray()
      for size in output.shape { json.integer(size) }
      json.endArray()
      if output.isBinary {
        json.key("parameters")
        json.beginObject()
        json.key("binary_data_size")
        json.integer(output.byteCount)
        json.endObject()
      } else {
        json.key("data")
        switch output.values {
        case .tensor(let tensor): json.flatElements(of: tensor, style: .shortest)
        case .strings(let strings):
          json.beginArray()
          for string in strings { json.string(string) }
          json.endArray()
        }
      }
      json.endObject()
    }
    json.endArray()
    json.endObject()
    return json.buffer
  }
}

extension Gzip {
  /// The content as a gzip file (RFC 1952).
  fileprivate static func compress(_ bytes: UnsafeRawBufferPointer) -> [UInt8] {
    func little(_ value: UInt32) -> [UInt8] { [0, 8, 16, 24].map { UInt8(truncatingIfNeeded: value >> $0) } }
    return [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255] + Deflate.compress(bytes) + little(CRC32.checksum(bytes))
      + little(UInt32(truncatingIfNeeded: bytes.count))
  }
}
