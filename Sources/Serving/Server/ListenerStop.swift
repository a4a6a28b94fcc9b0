import NIOCore

extension Channel {
  /// Makes the system answer no more new connections at a listening socket, while those it has made are still accepted.
  ///
  /// Closing the socket would reset connections that are made and not yet accepted, with the requests they may have carried. On Linux a
  /// filter drops the first packet of new ones instead; clients try again until the socket is closed, and are then refused. Elsewhere
  /// nothing happens. Returns when it is so.
  func stopTakingConnections() async {
    #if os(Linux)
      guard let socket = self as? any SocketOptionProvider else { return }
      // Classic BPF on the TCP header: load the byte of flags; if SYN is set drop the packet, else let it through.
      let program = FilterProgram([
        .init(code: 0x30, jt: 0, jf: 0, k: 13), .init(code: 0x45, jt: 0, jf: 1, k: 2), .init(code: 0x06, jt: 0, jf: 0, k: 0),
        .init(code: 0x06, jt: 0, jf: 0, k: 0xffff_ffff),
      ])
      let (socketLevel, attachFilter): (NIOBSDSocket.OptionLevel, NIOBSDSocket.Option) = (.socket, .init(rawValue: 26))
      // If the system has no filters, connections may be reset; nothing else changes.
      try? await socket.unsafeSetSocketOption(level: socketLevel, name: attachFilter, value: program.header).get()
      withExtendedLifetime(program) {}
    #endif
  }
}

#if os(Linux)
  /// The system's `sock_fprog`.
  private final class FilterProgram: @unchecked Sendable {
    // Unchecked: the memory is never written after initialization.

    /// `sock_filter`.
    struct Instruction {
      var code: UInt16
      var jt: UInt8
      var jf: UInt8
      var k: UInt32
    }

    struct Header: @unchecked Sendable {
      var count: UInt16
      var instructions: UnsafeMutablePointer<Instruction>
    }

    let header: Header

    init(_ instructions: [Instruction]) {
      let memory = UnsafeMutablePointer<Instruction>.allocate(capacity: instructions.count)
      memory.initialize(from: instructions, count: instructions.count)
      header = Header(count: UInt16(instructions.count), instructions: memory)
    }

    deinit { header.instructions.deallocate() }
  }
#endif
