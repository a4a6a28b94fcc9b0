import Foundation

#if canImport(Glibc)
  import Glibc
#endif

/// A web server on 127.0.0.1 that keeps what it is sent and answers 200.
final class PostServer: @unchecked Sendable {
  private let descriptor: Int32
  private let port: Int
  private let lock = NSLock()
  private var kept: [String] = []

  init() throws {
    #if canImport(Glibc)
      let stream = Int32(SOCK_STREAM.rawValue)
    #else
      let stream = SOCK_STREAM
    #endif
    descriptor = socket(AF_INET, stream, 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let socket = descriptor
    let bound = withUnsafeMutableBytes(of: &address) { raw in
      guard let pointer = raw.baseAddress?.assumingMemoryBound(to: sockaddr.self) else { return false }
      return bind(socket, pointer, length) == 0 && listen(socket, 16) == 0 && getsockname(socket, pointer, &length) == 0
    }
    guard bound else { throw POSIXError(.EADDRNOTAVAIL) }
    port = Int(UInt16(bigEndian: address.sin_port))
    Thread { [self] in serve() }.start()
  }

  var root: String { "http://127.0.0.1:\(port)" }
  /// Heads and bodies, in order.
  var requests: [String] { lock.withLock { kept } }

  /// Wakes the accepting thread, which then ends.
  func stop() { shutdown(descriptor, Int32(SHUT_RDWR)) }

  private func serve() {
    while true {
      let client = accept(descriptor, nil, nil)
      if client < 0 { break }
      var request: [UInt8] = []
      var buffer = [UInt8](repeating: 0, count: 4096)
      while !isWhole(request) {
        let count = recv(client, &buffer, buffer.count, 0)
        if count <= 0 { break }
        request += buffer.prefix(count)
      }
      lock.withLock { kept.append(String(decoding: request, as: UTF8.self)) }
      let answer = Array("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".utf8)
      _ = answer.withUnsafeBytes { send(client, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) }
      close(client)
    }
    close(descriptor)
  }

  private func isWhole(_ request: [UInt8]) -> Bool {
    let text = String(decoding: request, as: UTF8.self)
    guard let end = text.range(of: "\r\n\r\n") else { return false }
    let head = text[..<end.lowerBound].lowercased()
    guard let field = head.range(of: "content-length: ") else { return true }
    let length = Int(head[field.upperBound...].prefix { $0.isNumber }) ?? 0
    return text[end.upperBound...].utf8.count >= length
  }
}
