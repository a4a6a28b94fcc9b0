import ApusExport
import ApusFormats
import ApusServables
import ApusTensor
import Hummingbird
import NIOCore

/// TensorFlow Serving's REST API: `/v1/models/NAME[/versions/N|/labels/L]` with `:predict`, `:classify`, `:regress`, `/metadata`, and
/// the status of a model's versions.
public struct TensorFlowRoutes: Sendable {
  let context: ServingContext
  /// Whether `GET /v1/models` and `GET /v1/models/NAME` answer as KServe's protocol version 1, which gives those paths another meaning.
  let answersAsKServe: Bool

  public init(_ context: ServingContext, answersAsKServe: Bool = false) {
    (self.context, self.answersAsKServe) = (context, answersAsKServe)
  }

  public func add<Context: RequestContext>(to router: Router<Context>) {
    // What stands behind a colon is no part of the path's components, and words match without regard to case: the path is read here.
    for path: RouterPath in ["/v1/**", "/V1/**"] {
      for method: HTTPRequest.Method in [.get, .post, .put, .delete, .patch, .head] {
        router.on(path, method: method) { request, _ in await self.respond(to: request) }
      }
    }
  }

  func respond(to request: Request) async -> Response {
    let arrived = ContinuousClock.now
    do throws(ServingError) {
      let path = try TensorFlowPath(request.method, request.uri.path)
      switch path.subject {
      case .status: return try status(path)
      case .metadata: return try metadata(path)
      case .predict, .classify, .regress:
        let model = try context.servedModel(path.model, path.version)
        return try await withDisconnectCancellation(request) { (request) throws(ServingError) in
          let body = try await request.body(upTo: context.limits.maxBodyBytes)
          let id = RequestIdentity.current?.id ?? ""
          let call = Call(context: context, model: model, id: id, arrived: arrived)
          switch path.subject {
          case .classify: return Answer.json(try await call.classify(body))
          case .regress: return Answer.json(try await call.regress(body))
          default: return Answer.json(try await call.predict(body))
          }
        }
      }
    } catch { return Answer.error(error) }
  }

  // MARK: Status and metadata

  private func status(_ path: TensorFlowPath) throws(ServingError) -> Response {
    if answersAsKServe, path.version == .latest {
      var json = JSONWriter()
      json.beginObject()
      if path.model.isEmpty {
        json.key("models")
        json.beginArray()
        for name in context.repository.names { json.string(name) }
        json.endArray()
      } else {
        let statuses = try context.versionStatuses(path.model, .latest)
        json.key("name")
        json.string(path.model)
        json.key("ready")
        json.bool(statuses.contains { $0.state == .available })
      }
      json.endObject()
      return Answer.json(json.buffer)
    }
    var json = JSONWriter(.indented)
    json.beginObject()
    json.key("model_version_status")
    json.beginArray()
    for status in try context.versionStatuses(path.model, path.version) {
      json.beginObject()
      json.key("version")
      json.string("\(status.version)")
      json.key("state")
      json.string(status.state.name)
      json.key("status")
      json.beginObject()
      json.key("error_code")
      json.string(status.error?.code.name ?? "OK")
      json.key("error_message")
      json.string(status.error?.message ?? "")
      json.endObject()
      json.endObject()
    }
    json.endArray()
    json.endObject()
    return Answer.json(json.buffer)
  }

  private func metadata(_ path: TensorFlowPath) throws(ServingError) -> Response {
    guard !path.model.isEmpty else { throw ServingError(.invalidArgument, "Missing model name in request.") }
    let model = try context.servedModel(path.model, path.version)
    var json = JSONWriter(.indented)
    json.beginObject()
    json.key("model_spec")
    json.beginObject()
    json.key("name")
    json.string(model.name)
    json.key("signature_name")
    json.string("")
    json.key("version")
    json.string("\(model.version)")
    json.endObject()
    json.key("metadata")
    json.beginObject()
    json.key("signature_def")
    json.beginObject()
    json.key("signature_def")
    json.beginObject()
    for (name, signature) in Signature.named(of: model.servable) {
      json.key(name)
      json.beginObject()
      json.key("inputs")
      json.beginObject()
      for input in signature.inputs {
        json.tensorInfo(input.name, input.spec.elementType, input.spec.dimensions.map(\.sizeOrOpen))
      }
      json.endObject()
      json.key("outputs")
      json.beginObject()
      for output in signature.outputs {
        json.tensorInfo(output.name, output.elementType, output.dimensions.map { $0?.sizeOrOpen ?? -1 })
      }
      json.endObject()
      json.key("method_name")
      json.string(Signature.predictMethod)
      json.key("defaults")
      json.beginObject()
      json.endObject()
      json.endObject()
    }
    json.endObject()
    json.endObject()
    json.endObject()
    json.endObject()
    return Answer.json(json.buffer)
  }
}

extension JSONWriter {
  /// `TensorInfo` as JSON: sizes are 64-bit integers, and so strings.
  fileprivate mutating func tensorInfo(_ name: String, _ type: ElementType, _ sizes: [Int]) {
    key(name)
    beginObject()
    key("dtype")
    string(type.tensorFlowName)
    key("tensor_shape")
    beginObject()
    key("dim")
    beginArray()
    for size in sizes {
      beginObject()
      key("size")
      string("\(size)")
      key("name")
      string("")
      endObject()
    }
    endArray()
    key("unknown_rank")
    bool(false)
    endObject()
    key("name")
    string("\(name):0")
    endObject()
  }
}

extension ServingError.Code {
  /// The name in protocol buffers' JSON.
  var name: String {
    switch self {
    case .cancelled: "CANCELLED"
    case .unknown: "UNKNOWN"
    case .invalidArgument: "INVALID_ARGUMENT"
    case .deadlineExceeded: "DEADLINE_EXCEEDED"
    case .notFound: "NOT_FOUND"
    case .alreadyExists: "ALREADY_EXISTS"
    case .permissionDenied: "PERMISSION_DENIED"
    case .resourceExhausted: "RESOURCE_EXHAUSTED"
    case .failedPrecondition: "FAILED_PRECONDITION"
    case .aborted: "ABORTED"
    case .outOfRange: "OUT_OF_RANGE"
    case .unimplemented: "UNIMPLEMENTED"
    case .internalError: "INTERNAL"
    case .unavailable: "UNAVAILABLE"
    case .unauthenticated: "UNAUTHENTICATED"
    }
  }
}

/// A request to a model, whose body is there.
struct Call {
  let context: ServingContext
  let model: ServedModel
  let id: String
  let arrived: ContinuousClock.Instant

  func predict(_ body: ByteBuffer) async throws(ServingError) -> ByteBuffer {
    let parsed = try noting { () throws(ServingError) in
      let parsed = try PredictJSON.read(body, model, limits: context.limits)
      try check(parsed.inputs, against: parsed.signature)
      return parsed
    }
    let request = InferenceRequest(id: id, signature: parsed.signatureName, inputs: parsed.inputs)
    let response = try await context.infer(model, request, api: .tensorFlowREST, arrived: arrived)
    return try PredictJSON.answer(response.outputs, parsed.format)
  }

  func classify(_ body: ByteBuffer) async throws(ServingError) -> ByteBuffer {
    let examples = try noting { () throws(ServingError) in try ExamplesJSON.read(body, model, limits: context.limits) }
    let request = InferenceRequest(id: id, signature: examples.signatureName, inputs: examples.inputs)
    let response = try await context.infer(model, request, api: .tensorFlowREST, arrived: arrived)
    let result = try Classification(response.outputs, examples: examples.count, labels: model.classLabels)
    var json = JSONWriter(.indented, capacity: result.scores.count * 32 + 256)
    json.beginObject()
    json.key("results")
    json.beginArray()
    json.listsOnOneLine = true
    for row in 0..<examples.count {
      json.beginArray()
      for column in 0..<result.classCount {
        json.beginArray()
        json.string(result.label(row, column))
        json.number(result.scores[row * result.classCount + column], .sixDigits)
        json.endArray()
      }
      json.endArray()
    }
    json.listsOnOneLine = false
    json.endArray()
    json.endObject()
    return json.buffer
  }

  func regress(_ body: ByteBuffer) async throws(ServingError) -> ByteBuffer {
    let examples = try noting { () throws(ServingError) in try ExamplesJSON.read(body, model, limits: context.limits) }
    let request = InferenceRequest(id: id, signature: examples.signatureName, inputs: examples.inputs)
    let response = try await context.infer(model, request, api: .tensorFlowREST, arrived: arrived)
    let values = try regressions(response.outputs, examples: examples.count)
    var json = JSONWriter(.indented, capacity: values.count * 16 + 256)
    json.beginObject()
    json.key("results")
    json.listsOnOneLine = true
    json.beginArray()
    for value in values { json.number(value, .sixDigits) }
    json.endArray()
    json.endObject()
    return json.buffer
  }

  /// What fails before the model runs is noted too.
  private func noting<R>(_ body: () throws(ServingError) -> R) throws(ServingError) -> R {
    do throws(ServingError) { return try body() } catch {
      context.refused(model, id: id, api: .tensorFlowREST, arrived: arrived, error)
      throw error
    }
  }
}
