import ApusData
import ApusFormats
import Testing

@Suite struct IDXTests {
  @Test func everyElementType() throws {
    func parse(_ type: UInt8, _ dimensions: [UInt8], _ elements: [UInt8]) throws -> IDXFile {
      try IDXFile.parse([0, 0, type, UInt8(dimensions.count)] + dimensions.flatMap { [0, 0, 0, $0] } + elements)
    }
    func values<Element>(_ file: IDXFile, as type: Element.Type) -> [Element] {
      file.payload.withUnsafeBytes { raw in
        (0..<raw.count / MemoryLayout<Element>.size).map {
          raw.loadUnaligned(fromByteOffset: $0 * MemoryLayout<Element>.size, as: type)
        }
      }
    }
    let bytes = try parse(0x08, [2, 3], [1, 2, 3, 4, 5, 255])
    #expect(bytes.element == .uint8)
    #expect(bytes.dimensions == [2, 3])
    #expect(bytes.payload == [1, 2, 3, 4, 5, 255])
    #expect(values(try parse(0x09, [2], [255, 127]), as: Int8.self) == [-1, 127])
    #expect(values(try parse(0x0b, [2], [1, 2, 0xff, 0xfe]), as: Int16.self) == [258, -2])
    #expect(values(try parse(0x0c, [1], [0x80, 0, 0, 1]), as: Int32.self) == [-2_147_483_647])
    // 1.5 and -2 in IEEE 754: 0x3FC00000, 0xC0000000; 0x3FF8…, 0xC000….
    #expect(values(try parse(0x0d, [2], [0x3f, 0xc0, 0, 0, 0xc0, 0, 0, 0]), as: Float.self) == [1.5, -2])
    #expect(values(try parse(0x0e, [1], [0x3f, 0xf8, 0, 0, 0, 0, 0, 0]), as: Double.self) == [1.5])
    #expect(try parse(0x08, [], [9]).payload == [9])
    #expect(try parse(0x0d, [0, 5], []).payload.isEmpty)
  }

  @Test(arguments: [
    ([], FormatError.Kind.truncated, 0), ([0, 0, 8], .truncated, 3), ([1, 0, 8, 1, 0, 0, 0, 1, 5], .malformed, 0),
    ([0x1f, 0x8b, 8, 0], .malformed, 0), ([0, 0, 7, 0], .unknownType, 2), ([0, 0, 0x0a, 0, 1], .unknownType, 2),
    ([0, 0, 8, 2, 0, 0, 0, 1], .truncated, 8), ([0, 0, 8, 1, 0, 0, 0, 2, 5], .truncated, 9),
    ([0, 0, 8, 1, 0, 0, 0, 1, 5, 6], .trailingBytes, 9), ([0, 0, 8, 1, 0xff, 0xff, 0xff, 0xff], .truncated, 8),
    ([0, 0, 0x0e, 2] + [UInt8](repeating: 0xff, count: 8), .overflow, 8),
    ([0, 0, 8, 255] + [UInt8](repeating: 0xff, count: 1020), .overflow, 8),
  ])
  func refusals(bytes: [UInt8], kind: FormatError.Kind, offset: Int) {
    do {
      _ = try IDXFile.parse(bytes, file: "x.idx")
      Issue.record("nothing was thrown")
    } catch {
      #expect(error.kind == kind)
      #expect(error.offset == offset)
      #expect(error.file == "x.idx")
    }
  }
}
