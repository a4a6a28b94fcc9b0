import ApusFormats
import ApusServables
import Hummingbird
import NIOCore

/// A body as it came from the socket, piece by piece, so that what is in it is copied once, to where it is needed.
struct BodyChunks: Sendable {
  /// Pieces smaller than this are joined: a client that sends single bytes must not cost a buffer for each.
  private static let small = 4_096

  private(set) var chunks: [ByteBuffer] = []
  private(set) var count = 0
  /// Whether the last piece was made here and may grow.
  private var isJoining = false

  init() {}
  init(_ bytes: [UInt8]) { append(ByteBuffer(bytes: bytes)) }

  mutating func append(_ buffer: ByteBuffer) {
    guard buffer.readableBytes > 0 else { return }
    count += buffer.readableBytes
    guard buffer.readableBytes < Self.small, !chunks.isEmpty else {
      chunks.append(buffer)
      isJoining = false
      return
    }
    let last = chunks.count - 1
    if isJoining, chunks[last].readableBytes < Self.small * 16 {
      chunks[last].writeImmutableBuffer(buffer)
    } else if chunks[last].readableBytes < Self.small {
      var joined = ByteBuffer()
      joined.reserveCapacity(Self.small * 2)
      joined.writeImmutableBuffer(chunks[last])
      joined.writeImmutableBuffer(buffer)
      chunks[last] = joined
      isJoining = true
    } else {
      chunks.append(buffer)
      isJoining = false
    }
  }

  /// Calls `body` with the first `length` bytes in one piece; they are copied if they came in several.
  func withPrefix<R>(_ length: Int, _ body: (UnsafeRawBufferPointer) throws(ServingError) -> R) throws(ServingError) -> R {
    let result: Result<R, ServingError>
    func run(_ bytes: UnsafeRawBufferPointer) -> Result<R, ServingError> {
      do throws(ServingError) { return .success(try body(bytes)) } catch { return .failure(error) }
    }
    if let first = chunks.first, first.readableBytes >= length {
      result = first.withUnsafeReadableBytes { run(UnsafeRawBufferPointer(rebasing: $0[..<length])) }
    } else {
      var reader = Reader(self)
      let joined = [UInt8](unsafeUninitializedCapacity: min(length, count)) { buffer, filled in
        reader.copy(into: UnsafeMutableRawBufferPointer(start: buffer.baseAddress, count: min(length, count)))
        filled = min(length, count)
      }
      result = joined.withUnsafeBytes { run($0) }
    }
    return try result.get()
  }

  /// Reads the bytes in order.
  struct Reader {
    private let chunks: [ByteBuffer]
    private var chunk = 0
    private var offset = 0
    /// Bytes that have not been read.
    private(set) var left: Int

    init(_ body: BodyChunks) { (chunks, left) = (body.chunks, body.count) }

    mutating func skip(_ length: Int) { advance(length) { _, _ in } }

    /// Fills `memory`, which is no larger than what is left.
    mutating func copy(into memory: UnsafeMutableRawBufferPointer) {
      advance(memory.count) { position, part in
        UnsafeMutableRawBufferPointer(rebasing: memory[position..<position + part.count]).copyMemory(from: part)
      }
    }

    private mutating func advance(_ length: Int, _ body: (_ position: Int, UnsafeRawBufferPointer) -> Void) {
      var position = 0
      let end = min(length, left)
      while position < end {
        let taken = chunks[chunk].withUnsafeReadableBytes { bytes in
          let part = UnsafeRawBufferPointer(rebasing: bytes[offset..<min(bytes.count, offset + end - position)])
          body(position, part)
          return part.count
        }
        position += taken
        offset += taken
        if offset == chunks[chunk].readableBytes { (chunk, offset) = (chunk + 1, 0) }
      }
      left -= end
    }
  }
}

extension Request {
  /// The body in pieces, decompressed if it came compressed.
  /// - Throws: ``ServingError``: `outOfRange` if there are more than `limit` bytes, `cancelled` if the client has gone,
  ///   `invalidArgument` if it cannot be decompressed, `unimplemented` for an unknown compression.
  func bodyChunks(upTo limit: Int) async throws(ServingError) -> BodyChunks {
    let tooLong = ServingError(.outOfRange, "the body has more than the \(limit) bytes that are accepted")
    if let declared = headers[.contentLength].flatMap({ Int($0) }), declared > limit { throw tooLong }
    var result = BodyChunks()
    do {
      for try await buffer in body {
        guard buffer.readableBytes <= limit - result.count else { throw tooLong }
        result.append(buffer)
      }
    } catch let error as ServingError {
      throw error
    } catch {
      throw ServingError(.cancelled, "the client went away while it sent the body")
    }
    guard let encoding = headers[.contentEncoding], encoding.lowercased() != "identity" else { return result }
    let all = result
    return try all.withPrefix(all.count) { (bytes) throws(ServingError) in
      do throws(FormatError) {
        switch encoding.lowercased() {
        case "gzip", "x-gzip": return BodyChunks(try Gzip.decompress(bytes, file: "body", limit: limit))
        case "deflate": return BodyChunks(try Zlib.decompress(bytes, file: "body", limit: limit))
        default: throw FormatError(.unsupported, file: "body", "the content encoding \(FormatError.excerpt(encoding))")
        }
      } catch {
        switch error.kind {
        case .limitExceeded: throw tooLong
        case .unsupported: throw ServingError(.unimplemented, error.description)
        default: throw ServingError(.invalidArgument, error.description)
        }
      }
    }
  }
}
