import ApusFormats
import ApusPages
import ApusServables
import Hummingbird

/// Routes for whoever runs the server: metrics, the status page, and traces of requests.
///
/// | route | answer |
/// |---|---|
/// | `GET /metrics`, `GET /monitoring/prometheus/metrics` | metrics in Prometheus' text format |
/// | `GET /`, `GET /status` | the status page |
/// | `GET /status/state` | what the page shows, as JSON |
/// | `GET /status/curves?model=NAME` | a model's requests and latencies of the last 15 minutes |
/// | `GET /v2/trace/requests?last=N` | the last requests as a Chrome trace |
/// | `GET /v2/trace/requests/ID` | one of them |
public struct OperationsRoutes: Sendable {
  private let context: ServingContext

  public init(_ context: ServingContext) { self.context = context }

  public func add<C: RequestContext>(to router: Router<C>) {
    let context = context
    for path: RouterPath in ["/metrics", "/monitoring/prometheus/metrics"] {
      router.get(path) { _, _ in
        PageAnswer.data(ServingMetrics(context).text(), type: "text/plain; version=0.0.4; charset=utf-8")
      }
    }
    for file in StatusPage.files {
      for path in file.paths {
        router.get(RouterPath(path)) { _, _ in PageAnswer.answer(ByteBuffer(bytes: file.bytes), type: file.type) }
      }
    }
    router.get("/status/state") { _, _ in PageAnswer.data(StatusAnswers(context).state().printed()) }
    router.get("/status/curves") { request, _ in
      guard let model = request.uri.queryParameters["model"] else {
        return PageAnswer.failure(ServingError(.invalidArgument, "the parameter 'model' is needed"))
      }
      return PageAnswer.data(StatusAnswers(context).curves(String(model), slots: SlidingWindow.slotCount).printed())
    }
    router.get("/v2/trace/requests") { request, _ in
      guard let journal = context.journal as? ServingJournal else { return Self.noJournal }
      var count = journal.options.recentCount
      if let last = request.uri.queryParameters["last"] {
        guard let number = Int(last), number > 0 else {
          return PageAnswer.failure(ServingError(.invalidArgument, "'last' must be a number of requests, from 1"))
        }
        count = number
      }
      return PageAnswer.data(RequestTrace.json(journal.recent(count), startMicroseconds: journal.startMicroseconds))
    }
    router.get("/v2/trace/requests/:id") { _, parameters in
      guard let journal = context.journal as? ServingJournal else { return Self.noJournal }
      guard let text = parameters.parameters.get("id"), let id = TensorFlowPath.decoded(text[...]),
        let entry = journal.recent(id: id)
      else {
        return PageAnswer.failure(
          ServingError(.notFound, "no request of this id is among the last \(journal.options.recentCount)"))
      }
      return PageAnswer.data(RequestTrace.json([entry], startMicroseconds: journal.startMicroseconds))
    }
  }

  private static var noJournal: Response {
    PageAnswer.failure(ServingError(.unimplemented, "this server keeps no record of requests"))
  }
}

extension PageAnswer {
  static func data(_ text: String, type: String = "application/json") -> Response {
    answer(ByteBuffer(string: text), type: type)
  }

  static func failure(_ error: ServingError) -> Response {
    answer(
      ByteBuffer(string: JSONValue.object(["error": .string(error.message)]).printed()), type: "application/json",
      status: .init(code: error.code.httpStatus))
  }
}
