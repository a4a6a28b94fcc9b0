import ApusFormats
import ApusTensor
// The only file that needs Foundation's network code.
import Foundation

#if canImport(FoundationNetworking)
  import FoundationNetworking
#endif

/// Downloads of files over HTTP(S).
public enum Download {
  /// How far a download is: the bytes received, and the total if the server said it.
  public typealias Progress = @Sendable (_ received: Int, _ total: Int?) -> Void

  /// Why no mirror gave the file.
  public struct Failure: Error, Sendable, CustomStringConvertible {
    /// The path that the file would have had.
    public var path: String
    /// What each mirror answered, in the order tried.
    public var attempts: [(url: String, reason: String)]

    public var description: String {
      "\(path) could not be downloaded:" + attempts.map { "\n  \($0.url): \($0.reason)" }.joined()
    }
  }

  /// Fetches a file from the first of several mirrors that gives it whole and with the right checksum.
  ///
  /// The content goes to a temporary file beside `path`, which takes that name only once the checksum is right.
  /// - Parameters:
  ///   - urls: `http` or `https` addresses of the same file, tried in turn. Redirections are followed.
  ///   - sizeLimit: the most bytes accepted.
  ///   - timeout: how many seconds a server may stay silent.
  /// - Throws: `Failure` with every mirror's answer; `CancellationError` when the task is cancelled; `FormatError` when the
  ///   file cannot be written.
  public static func fetch(
    urls: [String], checksum: Checksum, to path: String, sizeLimit: Int = 1 << 32, timeout: Double = 30,
    progress: Progress? = nil
  ) async throws {
    try createFolder(parentFolder(of: path))
    var attempts: [(url: String, reason: String)] = []
    for url in urls {
      try Task.checkCancellation()
      do {
        let file = try AtomicFile(path)
        let transfer = Transfer(file: file, checksum: checksum, sizeLimit: sizeLimit, progress: progress)
        try await transfer.run(url: url, timeout: timeout)
        return
      } catch let refusal as Transfer.Refusal {
        attempts.append((url, refusal.reason))
      }
    }
    throw Failure(path: path, attempts: attempts)
  }
}

/// One request. The session calls the delegate on one serial queue; the lock is for the cancelling task.
private final class Transfer: NSObject, URLSessionDataDelegate, @unchecked Sendable {
  /// The mirror is at fault; another may do better.
  struct Refusal: Error { var reason: String }

  private let file: AtomicFile
  private var hasher: ChecksumHasher
  private let checksum: Checksum
  private let sizeLimit: Int
  private let progress: Download.Progress?
  private var expected: Int?
  private var failure: (any Error)?
  private let lock = NSLock()
  private var continuation: CheckedContinuation<Void, any Error>?
  private var task: URLSessionDataTask?
  private var isCancelled = false

  init(file: AtomicFile, checksum: Checksum, sizeLimit: Int, progress: Download.Progress?) {
    (self.file, self.checksum, self.sizeLimit, self.progress) = (file, checksum, sizeLimit, progress)
    hasher = ChecksumHasher(checksum)
  }

  func run(url text: String, timeout: Double) async throws {
    guard let url = URL(string: text), let scheme = url.scheme?.lowercased(), ["http", "https"].contains(scheme), url.host != nil
    else {
      throw Refusal(reason: "not an http or https address")
    }
    let configuration = URLSessionConfiguration.ephemeral
    configuration.timeoutIntervalForRequest = timeout
    let session = URLSession(configuration: configuration, delegate: self, delegateQueue: nil)
    defer { session.invalidateAndCancel() }
    var request = URLRequest(url: url)
    // The checksum is that of the file as it lies there, not of some transfer encoding.
    request.setValue("identity", forHTTPHeaderField: "Accept-Encoding")
    try await withTaskCancellationHandler {
      try await withCheckedThrowingContinuation { (continuation: CheckedContinuation<Void, any Error>) in
        let task = session.dataTask(with: request)
        lock.lock()
        self.continuation = continuation
        self.task = task
        let cancelled = isCancelled
        lock.unlock()
        task.resume()
        if cancelled { task.cancel() }
      }
    } onCancel: {
      lock.lock()
      isCancelled = true
      let task = self.task
      lock.unlock()
      task?.cancel()
    }
  }

  private func refuse(_ error: any Error, _ task: URLSessionTask) {
    if failure == nil { failure = error }
    task.cancel()
  }

  func urlSession(
    _ session: URLSession, dataTask: URLSessionDataTask, didReceive response: URLResponse,
    completionHandler: @escaping (URLSession.ResponseDisposition) -> Void
  ) {
    let status = (response as? HTTPURLResponse)?.statusCode ?? 0
    let length = response.expectedContentLength
    if status != 200 {
      failure = Refusal(reason: "HTTP status \(status)")
      completionHandler(.cancel)
    } else if length > Int64(sizeLimit) {
      failure = tooLarge
      completionHandler(.cancel)
    } else {
      expected = length >= 0 ? Int(length) : nil
      completionHandler(.allow)
    }
  }

  private var tooLarge: Refusal { Refusal(reason: "larger than the accepted \(sizeLimit) bytes") }

  func urlSession(_ session: URLSession, dataTask: URLSessionDataTask, didReceive data: Data) {
    guard failure == nil else { return }
    guard file.count + data.count <= sizeLimit else { return refuse(tooLarge, dataTask) }
    do {
      try data.withUnsafeBytes { bytes in
        hasher.update(bytes)
        try file.write(bytes)
      }
    } catch {
      return refuse(error, dataTask)
    }
    progress?(file.count, expected)
  }

  func urlSession(_ session: URLSession, task: URLSessionTask, didCompleteWithError error: (any Error)?) {
    let result = finish(task, error)
    lock.lock()
    let continuation = self.continuation
    self.continuation = nil
    let cancelled = isCancelled
    lock.unlock()
    if cancelled, case .failure = result {
      continuation?.resume(throwing: CancellationError())
    } else {
      continuation?.resume(with: result)
    }
  }

  private func finish(_ task: URLSessionTask, _ error: (any Error)?) -> Result<Void, any Error> {
    do {
      if let failure { throw failure }
      if let error { throw Refusal(reason: Self.words(error)) }
      if let expected, file.count != expected {
        throw Refusal(reason: "the transfer ended after \(file.count) of \(expected) bytes")
      }
      guard hasher.result == checksum else {
        throw Refusal(reason: "the content's checksum is \(hasher.result), not \(checksum)")
      }
      try file.commit()
      return .success(())
    } catch {
      file.discard()
      return .failure(error)
    }
  }

  private static func words(_ error: any Error) -> String {
    let error = error as NSError
    let words = error.localizedDescription
    return words.isEmpty ? "\(error.domain) \(error.code)" : words
  }
}

/// Sends bytes by HTTP POST and waits for the answer.
/// - Returns: why they did not arrive; nil if they did.
package func post(_ body: [UInt8], to text: String, headers: [String: String], timeout: Double) -> String? {
  guard let url = URL(string: text), let scheme = url.scheme?.lowercased(), ["http", "https"].contains(scheme), url.host != nil
  else { return "not an http or https address" }
  var request = URLRequest(url: url, timeoutInterval: timeout)
  request.httpMethod = "POST"
  request.httpBody = Data(body)
  for (name, value) in headers { request.setValue(value, forHTTPHeaderField: name) }
  let configuration = URLSessionConfiguration.ephemeral
  configuration.timeoutIntervalForRequest = timeout
  let session = URLSession(configuration: configuration)
  defer { session.invalidateAndCancel() }
  let outcome = Lock<String?>("no answer")
  let done = DispatchSemaphore(value: 0)
  let task = session.dataTask(with: request) { _, response, error in
    let status = (response as? HTTPURLResponse)?.statusCode ?? 0
    outcome.withLock {
      $0 = error.map { $0.localizedDescription } ?? ((200..<300).contains(status) ? nil : "HTTP status \(status)")
    }
    done.signal()
  }
  task.resume()
  if done.wait(timeout: .now() + timeout + 1) == .timedOut { task.cancel() }
  return outcome.withLock { $0 }
}
