import ApusServables
import Foundation
import GRPCCore
import GRPCNIOTransportHTTP2
import Synchronization
import Testing

@testable import ApusServing

#if canImport(Glibc)
  import Glibc
#elseif canImport(Darwin)
  import Darwin
#endif

/// A server that runs on free ports.
struct RunningServer: Sendable {
  let server: ModelServer
  let journal: MemoryJournal
  let http: Int
  let grpc: Int
}

/// Runs a server of fakes, and stops it after `body`.
func withServer(
  _ names: [String] = ["half_plus_two"], options change: (inout ServerOptions) -> Void = { _ in },
  limits changeLimits: (inout ServingLimits) -> Void = { _ in },
  _ body: @Sendable (RunningServer) async throws -> Void
) async throws {
  try await withFakes(names) { context, journal, _ in
    var options = ServerOptions()
    (options.httpPort, options.grpcPort, options.drainTimeout) = (0, 0, .seconds(20))
    change(&options)
    var limits = context.limits
    changeLimits(&limits)
    let server = ModelServer(ServingContext(context.repository, limits: limits, journal: journal), options: options)
    let (events, continuation) = AsyncStream.makeStream(of: ModelServer.Addresses.self)
    let run = Task {
      defer { continuation.finish() }
      try await server.run(handlesSignals: false) { event in
        if case .listening(let addresses) = event { continuation.yield(addresses) }
      }
    }
    guard let addresses = await events.first(where: { _ in true }) else { return try await run.value }
    func port(_ address: String?) -> Int { address?.split(separator: ":").last.flatMap { Int($0) } ?? 0 }
    do {
      try await body(RunningServer(server: server, journal: journal, http: port(addresses.http), grpc: port(addresses.grpc)))
    } catch {
      server.stop()
      server.stop()
      throw error
    }
    // A second request to stop would abandon what is being answered.
    if server.stops.value == 0 { server.stop() }
    try await run.value
  }
}

/// Does what blocks on a thread of its own.
func blocking<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
  try await withCheckedThrowingContinuation { continuation in
    Thread.detachNewThread { continuation.resume(with: Result { try body() }) }
  }
}

/// A connection that sends whatever bytes it is given.
final class RawConnection: @unchecked Sendable {
  // Unchecked: used by one thread at a time.
  private let descriptor: Int32
  private var received: [UInt8] = []

  struct Answer: Sendable {
    var status = 0
    var head = ""
    var body = ""
    func field(_ name: String) -> String? {
      head.split(separator: "\r\n").first { $0.lowercased().hasPrefix(name.lowercased() + ":") }.map {
        $0.dropFirst(name.count + 1).trimmingCharacters(in: .whitespaces)
      }
    }
  }

  struct Refused: Error {}

  init(_ port: Int) throws {
    #if canImport(Glibc)
      descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    #else
      descriptor = socket(AF_INET, SOCK_STREAM, 0)
    #endif
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = UInt16(port).bigEndian
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    let result = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
    }
    guard result == 0 else { throw Refused() }
    var limit = timeval(tv_sec: 20, tv_usec: 0)
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
    setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, socklen_t(MemoryLayout<timeval>.size))
  }

  deinit { close() }

  private let isClosed = Mutex(false)
  func close() {
    let wasClosed = isClosed.withLock { closed in
      defer { closed = true }
      return closed
    }
    #if canImport(Glibc)
      if !wasClosed { _ = Glibc.close(descriptor) }
    #else
      if !wasClosed { _ = Darwin.close(descriptor) }
    #endif
  }

  /// Whether all could be sent.
  @discardableResult func send(_ text: String) -> Bool { send(Array(text.utf8)) }
  @discardableResult func send(_ bytes: [UInt8]) -> Bool {
    var sent = 0
    while sent < bytes.count {
      #if canImport(Glibc)
        let flags = Int32(MSG_NOSIGNAL)
      #else
        let flags: Int32 = 0
      #endif
      let count = bytes.withUnsafeBytes {
        #if canImport(Glibc)
          Glibc.send(descriptor, $0.baseAddress! + sent, $0.count - sent, flags)
        #else
          Darwin.send(descriptor, $0.baseAddress! + sent, $0.count - sent, flags)
        #endif
      }
      guard count > 0 else { return false }
      sent += count
    }
    return true
  }

  private func receive() -> Bool {
    var buffer = [UInt8](repeating: 0, count: 65_536)
    errno = 0
    let count = recv(descriptor, &buffer, buffer.count, 0)
    guard count > 0 else { return false }
    received += buffer[..<count]
    return true
  }

  /// Whether the server has closed the connection; what it sends before is passed over.
  func isEnded() -> Bool {
    while receive() {}
    return errno != EAGAIN
  }

  /// The next answer; nil if the connection ends first.
  func answer() -> Answer? {
    var answer = Answer()
    var end: Int?
    while end == nil {
      if let range = Data(received).range(of: Data("\r\n\r\n".utf8)) { end = range.upperBound } else if !receive() { return nil }
    }
    guard let end else { return nil }
    answer.head = String(decoding: received[..<end], as: UTF8.self)
    answer.status = Int(answer.head.dropFirst(9).prefix(3)) ?? 0
    let length = answer.field("content-length").flatMap { Int($0) } ?? 0
    while received.count < end + length { if !receive() { return nil } }
    answer.body = String(decoding: received[end..<end + length], as: UTF8.self)
    received.removeFirst(end + length)
    return answer
  }

  /// Sends a request, and reads its answer.
  func request(_ method: String, _ path: String, _ fields: [String] = [], _ body: String? = nil) -> Answer? {
    var lines = ["\(method) \(path) HTTP/1.1", "host: test"] + fields
    if let body { lines.append("content-length: \(body.utf8.count)") }
    send(lines.joined(separator: "\r\n") + "\r\n\r\n" + (body ?? ""))
    return answer()
  }
}

/// Asks on a connection of its own.
func ask(_ port: Int, _ method: String, _ path: String, _ fields: [String] = [], _ body: String? = nil) async throws
  -> RawConnection.Answer?
{
  try await blocking { try RawConnection(port).request(method, path, fields, body) }
}

/// Runs a program, and returns its status and output.
func runProgram(_ path: String, _ arguments: [String]) async throws -> (status: Int32, output: String) {
  try await blocking {
    let (process, pipe) = (Process(), Pipe())
    process.executableURL = URL(fileURLWithPath: path)
    process.arguments = arguments
    (process.standardOutput, process.standardError) = (pipe, FileHandle.nullDevice)
    try process.run()
    let output = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    return (process.terminationStatus, String(decoding: output, as: UTF8.self))
  }
}
