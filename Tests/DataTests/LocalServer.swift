import Foundation

#if canImport(Glibc)
  import Glibc
#endif

/// A web server on 127.0.0.1 that answers each path with given bytes, verbatim, and closes the connection.
final class LocalServer: @unchecked Sendable {
  private let descriptor: Int32
  private let answers: [String: [UInt8]]
  let port: Int

  init(_ answers: [String: [UInt8]]) throws {
    self.answers = answers
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
      let pointer = raw.baseAddress!.assumingMemoryBound(to: sockaddr.self)
      return bind(socket, pointer, length) == 0 && listen(socket, 16) == 0 && getsockname(socket, pointer, &length) == 0
    }
    guard bound else { throw POSIXError(.EADDRNOTAVAIL) }
    port = Int(UInt16(bigEndian: address.sin_port))
    let thread = Thread { [self] in serve() }
    thread.start()
  }

  func url(_ path: String) -> String { "http://127.0.0.1:\(port)\(path)" }

  /// Wakes the accepting thread, which then ends.
  func stop() { shutdown(descriptor, Int32(SHUT_RDWR)) }

  private func serve() {
    while true {
      let client = accept(descriptor, nil, nil)
      if client < 0 { break }
      var request: [UInt8] = []
      var buffer = [UInt8](repeating: 0, count: 4096)
      while !request.suffix(4).elementsEqual("\r\n\r\n".utf8) {
        let count = recv(client, &buffer, buffer.count, 0)
        if count <= 0 { break }
        request += buffer.prefix(count)
      }
      let path = String(decoding: request, as: UTF8.self).split(separator: " ").dropFirst().first.map(String.init) ?? ""
      // No answer for this path: hang up at once. A first byte of 0: stay silent until the client leaves.
      if let answer = answers[path] {
        if answer.first == 0 {
          _ = recv(client, &buffer, 1, 0)
        } else {
          var sent = 0
          while sent < answer.count {
            let count = answer.withUnsafeBytes { send(client, $0.baseAddress! + sent, $0.count - sent, Int32(MSG_NOSIGNAL)) }
            if count <= 0 { break }
            sent += count
          }
        }
      }
      shutdown(client, Int32(SHUT_RDWR))
      close(client)
    }
    close(descriptor)
  }

  /// An answer with a body; a length other than the body's for servers that lie.
  static func answer(_ body: [UInt8], status: String = "200 OK", length: Int? = nil, header: String = "") -> [UInt8] {
    Array("HTTP/1.1 \(status)\r\nContent-Length: \(length ?? body.count)\r\n\(header)Connection: close\r\n\r\n".utf8) + body
  }
}
