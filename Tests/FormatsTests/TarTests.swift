import Testing

@testable import ApusFormats

@Suite struct TarTests {
  /// An entry as `tar` writes it.
  private func entry(_ name: String, _ content: [UInt8], kind: UInt8 = 0x30) -> [UInt8] {
    var header = [UInt8](repeating: 0, count: 512)
    func put(_ text: String, at: Int) { for (i, byte) in text.utf8.enumerated() { header[at + i] = byte } }
    func octal(_ number: Int, _ width: Int) -> String {
      let digits = String(number, radix: 8)
      return String(repeating: "0", count: width - digits.count) + digits
    }
    put(name, at: 0)
    put("0000644", at: 100)
    put(octal(content.count, 11), at: 124)
    put("        ", at: 148)
    header[156] = kind
    put("ustar", at: 257)
    put(octal(header.reduce(0) { $0 + Int($1) }, 6) + "\0 ", at: 148)
    return header + content + [UInt8](repeating: 0, count: (512 - content.count % 512) % 512)
  }

  private func content(_ name: String, _ archive: [UInt8]) throws -> [UInt8] {
    try Tar.content(of: name, in: archive, file: "a.tar")
  }

  @Test func findsFiles() throws {
    let long = (0..<1_300).map { UInt8(truncatingIfNeeded: $0) }
    let archive =
      entry("top/", [], kind: 0x35) + entry("top/a.txt", Array("hello".utf8)) + entry("top/b.bin", long) + entry("empty", [])
      + [UInt8](repeating: 0, count: 1024)
    #expect(try content("a.txt", archive) == Array("hello".utf8))
    #expect(try content("top/b.bin", archive) == long)
    #expect(try content("empty", archive) == [])
    #expect(throws: FormatError.self) { try content(".txt", archive) }
    #expect(throws: FormatError.self) { try content("top/", archive) }
  }

  @Test func refusesDamage() throws {
    let archive = entry("a", Array(repeating: 7, count: 600)) + entry("b", [1])
    for place in [0, 100, 124, 130, 156] {
      var damaged = archive
      damaged[place] ^= 1
      #expect(throws: FormatError.self, "byte \(place)") { try content("b", damaged) }
    }
    for length in stride(from: 0, through: 1_600, by: 50) {
      #expect(throws: FormatError.self) { try content("b", Array(archive.prefix(length))) }
    }
    // Sizes that are no octal numbers, or larger than memory, with a right checksum.
    for size in ["77777777777", "9", "-1", ""] {
      var header = entry("a", [])
      for i in 0..<12 { header[124 + i] = 0 }
      for (i, byte) in size.utf8.enumerated() { header[124 + i] = byte }
      for i in 148..<156 { header[i] = 0x20 }
      let digits = String(header.reduce(0) { $0 + Int($1) }, radix: 8)
      for (i, byte) in (String(repeating: "0", count: 6 - digits.count) + digits).utf8.enumerated() { header[148 + i] = byte }
      #expect(throws: FormatError.self, "\(size)") { try content("a", header) }
    }
  }
}
