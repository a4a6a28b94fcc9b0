import ApusFormats
import ApusPages
import Hummingbird
import Logging
import Synchronization

/// Shows the runs below a folder as pages in a browser.
///
/// ```swift
/// let board = try BoardServer(folder: "runs", port: 0)
/// try await board.run { url in print("The board is at \(url)") }
/// ```
public struct BoardServer: Sendable {
  private let store: RunStore
  private let host: String
  private let port: Int

  /// - Parameters:
  ///   - folder: where runs are, or will be: each folder below with event files is one.
  ///   - host: what to listen at. The default is heard on this machine alone; whoever can reach another may read all runs.
  ///   - port: 0 for one that is free.
  /// - Throws: `FormatError`, if there is no such folder.
  public init(folder: String, host: String = "127.0.0.1", port: Int = 6006) throws(FormatError) {
    store = try RunStore(folder: folder)
    (self.host, self.port) = (host, port)
  }

  /// The number of runs there are now.
  public func runCount() async -> Int {
    await store.refresh()
    return await store.runs.count
  }

  /// Serves until the task is cancelled or the process is asked to end (SIGINT, SIGTERM).
  /// - Parameter started: called with the address when the board can be looked at.
  /// - Throws: ``BoardError``, if nothing can be served there.
  public func run(_ started: @escaping @Sendable (String) -> Void) async throws {
    let isLocal = ["127.0.0.1", "::1", "localhost"].contains(host)
    let router = Self.router(store, isLocal: isLocal)
    let (host, port) = (host, port)
    let hasStarted = Flag()
    var logger = Logger(label: "apus board")
    logger.logLevel = .critical
    let application = Application(
      router: router,
      configuration: ApplicationConfiguration(address: .hostname(host, port: port)),
      onServerRunning: { channel in
        hasStarted.value.store(true, ordering: .relaxed)
        let bound = channel.localAddress?.port ?? port
        started("http://\(host.contains(":") ? "[\(host)]" : host):\(bound)/")
      },
      logger: logger)
    do { try await application.runService() } catch {
      if hasStarted.value.load(ordering: .relaxed) || error is CancellationError { throw error }
      throw BoardError(message: "cannot listen at port \(port) of \(host): \(error). Port 0 takes one that is free.")
    }
  }

  private static func router(_ store: RunStore, isLocal: Bool) -> Router<BasicRequestContext> {
    let router = Router()
    router.add(middleware: Guarding(isLocal: isLocal))
    for file in BoardPage.files {
      router.get(RouterPath(file.path)) { _, _ in answer(file.bytes, type: file.type) }
    }
    func api(_ path: RouterPath, _ body: @escaping @Sendable (BoardQuery) async throws(BoardQuery.Mistake) -> JSONValue) {
      router.get(path) { request, _ in
        do throws(BoardQuery.Mistake) {
          return answer(Array(try await body(query(request)).printed().utf8), type: "application/json")
        } catch {
          return refusal(error)
        }
      }
    }
    api("/api/state") { _ in
      await store.refresh()
      return await store.state()
    }
    api("/api/scalars") { (query) throws(BoardQuery.Mistake) in try await store.scalars(query) }
    api("/api/histograms") { (query) throws(BoardQuery.Mistake) in try await store.histograms(query) }
    api("/api/images") { (query) throws(BoardQuery.Mistake) in try await store.blobs(query, sounds: false) }
    api("/api/sounds") { (query) throws(BoardQuery.Mistake) in try await store.blobs(query, sounds: true) }
    api("/api/texts") { (query) throws(BoardQuery.Mistake) in try await store.texts(query) }
    api("/api/hyperparameters") { _ in await store.hyperparameters() }
    func blob(_ path: RouterPath, sounds: Bool) {
      router.get(path) { request, _ in
        do throws(BoardQuery.Mistake) {
          let bytes = try await store.blob(query(request), sounds: sounds)
          guard let type = mediaType(bytes, sounds: sounds) else {
            return refusal(BoardQuery.Mistake(isMissing: true, message: "neither PNG, JPEG, GIF nor WAV"))
          }
          return answer(bytes, type: type)
        } catch {
          return refusal(error)
        }
      }
    }
    blob("/api/image", sounds: false)
    blob("/api/sound", sounds: true)
    return router
  }

  private static func query(_ request: Request) -> BoardQuery {
    var values: [String: String] = [:]
    for (name, value) in request.uri.queryParameters { values[String(name)] = String(value) }
    return BoardQuery(values)
  }

  /// Only what is really a picture (or sound) is given out as one: an event file must not be able to bring a page along.
  private static func mediaType(_ bytes: [UInt8], sounds: Bool) -> String? {
    if sounds { return bytes.starts(with: Array("RIFF".utf8)) ? "audio/wav" : nil }
    if bytes.starts(with: [0x89, 0x50, 0x4e, 0x47]) { return "image/png" }
    if bytes.starts(with: [0xff, 0xd8, 0xff]) { return "image/jpeg" }
    return bytes.starts(with: Array("GIF8".utf8)) ? "image/gif" : nil
  }

  private static func answer(_ bytes: [UInt8], type: String, status: HTTPResponse.Status = .ok) -> Response {
    PageAnswer.answer(ByteBuffer(bytes: bytes), type: type, status: status, media: true)
  }

  fileprivate static func refusal(_ mistake: BoardQuery.Mistake, status: HTTPResponse.Status? = nil) -> Response {
    let body = JSONValue.object(["error": .string(mistake.message)]).printed()
    return answer(Array(body.utf8), type: "application/json", status: status ?? (mistake.isMissing ? .notFound : .badRequest))
  }
}

/// Why the board cannot be shown.
public struct BoardError: Error, Sendable, CustomStringConvertible {
  public var message: String
  public var description: String { message }
}

private final class Flag: Sendable {
  let value = Atomic<Bool>(false)
}

/// A page of somebody else's whose name was made to point at this machine must not read the runs: a board that is heard here alone
/// answers to names of this machine only.
private struct Guarding<Context: RequestContext>: RouterMiddleware {
  let isLocal: Bool

  func handle(_ request: Request, context: Context, next: (Request, Context) async throws -> Response) async throws -> Response {
    if isLocal, let authority = request.head.authority {
      let name = authority.hasPrefix("[") ? String(authority.prefix { $0 != "]" }) + "]" : String(authority.prefix { $0 != ":" })
      guard ["127.0.0.1", "localhost", "[::1]"].contains(name.lowercased()) else {
        return BoardServer.refusal(.init(message: "this board answers to 127.0.0.1 and localhost only"), status: .forbidden)
      }
    }
    return try await next(request, context)
  }
}
