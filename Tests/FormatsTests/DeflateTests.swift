import ApusFormats
import ApusTensor
import Foundation
import Testing

@Suite struct DeflateTests {
  /// What the reader, which is tested with zlib's files, makes of the writer's output.
  func roundTrip(_ bytes: [UInt8]) throws -> Int {
    let compressed = bytes.withUnsafeBytes { Zlib.compress($0) }
    let back = try compressed.withUnsafeBytes { try Zlib.decompress($0, file: "test") }
    #expect(back == bytes, "\(bytes.count) bytes")
    return compressed.count
  }

  @Test func everyKindOfContentComesBack() throws {
    var random = SeededGenerator(state: 1)
    for count in [0, 1, 2, 3, 4, 7, 258, 259, 1000, 40_000, 200_000] {
      let noise = (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
      #expect(try roundTrip(noise) <= count + 11 + (count / 32_768 + 1) * 5)
      #expect(try roundTrip([UInt8](repeating: 7, count: count)) <= count / 100 + 40)
      _ = try roundTrip((0..<count).map { _ in UInt8.random(in: 0...2, using: &random) })
      _ = try roundTrip((0..<count).map { UInt8(truncatingIfNeeded: $0 / 3) })
    }
    #expect(try roundTrip(pattern(300_000)) < 110_000)
  }

  /// Frequencies like Fibonacci's numbers give the deepest trees, beyond the 15 bits that DEFLATE allows.
  @Test func codesAreLimitedInLength() throws {
    var (a, b) = (1, 1)
    var bytes: [UInt8] = []
    for symbol in 0..<24 {
      bytes += [UInt8](repeating: UInt8(symbol * 7), count: a)
      (a, b) = (b, a + b)
    }
    var random = SeededGenerator(state: 2)
    bytes.shuffle(using: &random)
    _ = try roundTrip(bytes)
  }
}

@Suite struct PNGTests {
  /// The parts of a PNG file, each with its checksum verified.
  func chunks(_ file: [UInt8]) throws -> [(type: String, content: [UInt8])] {
    #expect(Array(file.prefix(8)) == [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])
    var (result, next): ([(String, [UInt8])], Int) = ([], 8)
    func number(_ at: Int) -> Int { file[at..<at + 4].reduce(0) { $0 << 8 | Int($1) } }
    while next < file.count {
      let count = number(next)
      let body = Array(file[next + 4..<next + 8 + count])
      #expect(number(next + 8 + count) == Int(body.withUnsafeBytes { CRC32.checksum($0) }))
      result.append((String(decoding: body[..<4], as: UTF8.self), Array(body[4...])))
      next += 12 + count
    }
    return result
  }

  /// The pixels, by the specification's reconstruction.
  func pixels(_ file: [UInt8], row: Int, step: Int) throws -> [UInt8] {
    let data = try chunks(file).first { $0.type == "IDAT" }?.content ?? []
    let filtered = try data.withUnsafeBytes { try Zlib.decompress($0, file: "png") }
    var (result, above): ([UInt8], [UInt8]) = ([], [UInt8](repeating: 0, count: row))
    for start in stride(from: 0, to: filtered.count, by: row + 1) {
      var current = [UInt8](repeating: 0, count: row)
      for x in 0..<row {
        let a = x >= step ? Int(current[x - step]) : 0
        let (b, c) = (Int(above[x]), x >= step ? Int(above[x - step]) : 0)
        let (pa, pb, pc) = (abs(b - c), abs(a - c), abs(a + b - 2 * c))
        let guess =
          switch filtered[start] {
          case 0: 0
          case 1: a
          case 2: b
          case 3: (a + b) / 2
          default: pa <= pb && pa <= pc ? a : pb <= pc ? b : c
          }
        current[x] = filtered[start + 1 + x] &+ UInt8(guess)
      }
      result += current
      above = current
    }
    return result
  }

  @Test func pixelsComeBack() throws {
    var random = SeededGenerator(state: 3)
    for channels in 1...4 {
      let (width, height) = (37, 21)
      for smooth in [true, false] {
        let bytes = (0..<width * height * channels).map { i -> UInt8 in
          smooth
            ? UInt8(truncatingIfNeeded: i / channels % width * 3 + i / (width * channels) * 2)
            : .random(in: 0...255, using: &random)
        }
        let file = try PNG.encode(bytes, width: width, height: height, channels: channels)
        #expect(try pixels(file, row: width * channels, step: channels) == bytes)
        #expect(try chunks(file).map(\.type) == ["IHDR", "IDAT", "IEND"])
        let header = try chunks(file)[0].content
        #expect(header == [0, 0, 0, 37, 0, 0, 0, 21, 8, [0, 4, 2, 6][channels - 1], 0, 0, 0])
        if smooth { #expect(file.count < bytes.count / 2) }
      }
    }
  }

  @Test func tensorsAreRoundedAndCutOff() throws {
    let image = Tensor([[0, 0.5, 1], [-3, 2, .nan]] as [[Float]])
    #expect(try pixels(PNG.encode(image), row: 3, step: 1) == [0, 128, 255, 0, 255, 0])
    let planes = Tensor((0..<12).map { Float($0) / 255 }, shape: [3, 2, 2])
    #expect(try pixels(PNG.encode(planes), row: 6, step: 3) == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11])
    #expect(
      try pixels(PNG.encode(planes.transposed([1, 2, 0]), channelsLast: true), row: 6, step: 3)
        == [0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11])
  }

  @Test func whatIsNoPictureIsRefused() throws {
    #expect(formatError { _ = try PNG.encode([1, 2, 3], width: 2, height: 2, channels: 1) }?.kind == .sizeMismatch)
    #expect(formatError { _ = try PNG.encode([], width: 0, height: 2, channels: 1) }?.kind == .unsupported)
    #expect(formatError { _ = try PNG.encode([], width: .max / 2, height: .max / 2, channels: 1) }?.kind == .unsupported)
    #expect(formatError { _ = try PNG.encode([1], width: 1, height: 1, channels: 5) }?.kind == .unsupported)
    #expect(formatError { _ = try PNG.encode(Tensor.zeros([1, 2, 3, 4])) }?.kind == .unsupported)
    #expect(formatError { _ = try PNG.encode(Tensor.zeros([5, 4, 4])) }?.kind == .unsupported)
    #expect(formatError { _ = try PNG.encode(Tensor.zeros([4, 4], .int32)) }?.kind == .unsupported)
  }
}
