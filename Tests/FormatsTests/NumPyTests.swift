import ApusFormats
import ApusTensor
import Foundation
import Testing

@Suite struct NumPyTests {
  private static func path(_ name: String) -> String {
    URL(fileURLWithPath: #filePath).deletingLastPathComponent().appendingPathComponent("Fixtures/numpy/\(name)").path
  }

  private static let types: [ElementType] = [
    .bool, .uint8, .int8, .int16, .int32, .int64, .float16, .bfloat16, .float32, .float64,
  ]

  /// −2 … 3 as [2, 3]: what make_numpy.py's `sample` gives.
  private static func sample(_ type: ElementType) -> Tensor {
    let x = Tensor([-2, -1, 0, 1, 2, 3] as [Int64], shape: [2, 3])
    return type == .bool ? x .!= 0 : x.converted(to: type)
  }

  private static func bytes(_ tensor: Tensor) -> [UInt8] { tensor.withUnsafeBytes { Array($0) } }

  @Test(arguments: types) func readsEveryType(type: ElementType) throws {
    let expected = Self.sample(type)
    for tensor in [
      try NPY.read(Self.path("\(type).npy")), try NPZFile(path: Self.path("stored.npz")).tensor("\(type)"),
      try NPZFile(path: Self.path("deflated.npz")).tensor("\(type)"),
    ] {
      #expect(tensor.type == expected.type && Self.bytes(tensor) == Self.bytes(expected))
    }
  }

  @Test func readsOrdersVersionsAndShapes() throws {
    let fortran = try NPY.read(Self.path("fortran.npy"))
    #expect(fortran.shape == [2, 3, 4] && fortran.floats == (0..<24).map(Float.init))
    #expect(try NPY.read(Self.path("big_endian.npy")).elements(as: Int32.self) == [-2, -1, 0, 1, 2, 3])
    #expect(try NPY.read(Self.path("scalar.npy")).item() == 2.5)
    #expect(try NPY.read(Self.path("empty.npy")).shape == [0, 3])
    for version in [2, 3] { #expect(try NPY.read(Self.path("version\(version).npy")).floats == [-2, -1, 0, 1, 2, 3]) }
    let zeros = try NPZFile(path: Self.path("deflated.npz")).tensor("zeros")
    #expect(zeros.shape == [300, 100] && zeros.floats.allSatisfy { $0 == 0 })
    #expect(try NPZFile(path: Self.path("streamed.npz")).tensor("a").floats == [-2, -1, 0, 1, 2, 3])
  }

  @Test func refusesWhatItHasNoTensorsFor() {
    for name in ["structured", "object", "complex", "unicode"] {
      #expect(formatError { _ = try NPY.read(Self.path("\(name).npy")) }?.kind == .unsupported, "\(name)")
    }
  }

  @Test func writesAndReadsAgain() throws {
    try withTemporaryFolder { folder in
      // Kept for make_numpy.py --check where this names a folder.
      let out = ProcessInfo.processInfo.environment["APUS_NUMPY_OUT"] ?? folder
      var all: [String: Tensor] = [
        "scalar": Tensor(1.5), "vector": Tensor.arange(5), "empty": Tensor.zeros([0, 3]),
        "rank8": Tensor.ones([1, 2, 1, 2, 1, 2, 1, 2]),
      ]
      for type in Self.types {
        let tensor = Self.sample(type)
        all["\(type)"] = tensor
        try NPY.write(tensor, to: "\(out)/\(type).npy")
        #expect(try NPY.header(of: "\(out)/\(type).npy").type == tensor.type)
        #expect(try Self.bytes(NPY.read("\(out)/\(type).npy")) == Self.bytes(tensor))
      }
      try NPZFile.write(all, to: out + "/all.npz")
      let read = try NPZFile(path: out + "/all.npz")
      #expect(read.names == all.keys.sorted())
      for (name, tensor) in try read.tensors() {
        #expect(tensor.type == all[name]?.type && Self.bytes(tensor) == Self.bytes(all[name]!))
      }
      #expect(formatError { try NPZFile.write(["../x": Tensor(1)], to: out + "/bad.npz") }?.kind == .unsafePath)
    }
  }

  // MARK: Hostile headers

  private func npy(_ header: String, _ data: Int = 0, version: UInt8 = 1) -> [UInt8] {
    let length = UInt16(header.utf8.count)
    return [0x93] + Array("NUMPY".utf8) + [version, 0, UInt8(length & 255), UInt8(length >> 8)] + Array(header.utf8)
      + [UInt8](repeating: 0, count: data)
  }

  @Test func hostileHeadersAreRefused() throws {
    func header(_ shape: String, descr: String = "'<f4'", order: String = "False") -> String {
      "{'descr': \(descr), 'fortran_order': \(order), 'shape': \(shape), }"
    }
    let good = npy(header("(2, 3)"), 24)
    var long = good
    (long[6], long[8], long[9]) = (2, 255, 255)
    let cases: [(String, [UInt8], FormatError.Kind)] = [
      ("nothing", [], .truncated), ("magic", [UInt8](repeating: 1, count: 20), .malformed),
      ("version 4", npy(header("(2, 3)"), 24, version: 4), .unsupported),
      ("cut header", Array(good.prefix(30)), .truncated), ("cut data", Array(good.dropLast()), .truncated),
      ("more data", good + [0], .trailingBytes), ("long header", long, .limitExceeded),
      ("negative size", npy(header("(-2, 3)"), 24), .invalidEntry),
      ("overflow", npy(header("(4194305, 4194305, 211106198978564)"), 4), .overflow),
      ("overflow beside zero", npy(header("(0, 4611686018427387904, 4611686018427387904)")), .overflow),
      ("digits", npy(header("(99999999999999999999999,)")), .overflow), ("huge", npy(header("(1099511627776,)"), 4), .truncated),
      ("nine dimensions", npy(header("(1, 1, 1, 1, 1, 1, 1, 1, 1)"), 4), .unsupported),
      ("no tuple", npy(header("6"), 24), .malformed), ("order", npy(header("(6,)", order: "Maybe"), 24), .invalidEntry),
      ("code", npy(header("(6,)", descr: "__import__('os')"), 24), .malformed),
      ("pickled", npy(header("(6,)", descr: "'|O'"), 48), .unsupported),
      ("structured", npy(header("(6,)", descr: "[('a', '<f4')]"), 24), .unsupported),
      ("missing", npy("{'descr': '<f4', 'shape': (6,)}", 24), .missing),
      ("twice", npy("{'descr': '<f4', 'descr': '<f4', 'fortran_order': False, 'shape': (6,)}", 24), .duplicateKey),
      ("unknown", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (6,), 'x': 1}", 24), .invalidEntry),
      ("open string", npy("{'descr", 24), .malformed), ("after", npy(header("(6,)") + " 1", 24), .malformed),
    ]
    for (name, bytes, kind) in cases {
      let error = formatError { try bytes.withUnsafeBytes { _ = try NPY.tensor($0, file: "x.npy") } }
      #expect(error?.kind == kind, "\(name): \(String(describing: error))")
    }
    // Any byte but zero is true.
    let truths = npy(header("(3,)", descr: "'|b1'")) + [0, 2, 255]
    #expect(try truths.withUnsafeBytes { try Self.bytes(NPY.tensor($0, file: "x")) } == [0, 1, 1])
  }

  // MARK: Hostile archives

  private func open(_ bytes: [UInt8], limit: Int = 1 << 30) throws {
    let file = try NPZFile(FileBytes(bytes, name: "x.npz"), limit: limit)
    _ = try file.tensors()
  }

  @Test func hostileArchivesAreRefused() throws {
    let stored = Array(try Data(contentsOf: URL(fileURLWithPath: Self.path("stored.npz"))))
    let deflated = Array(try Data(contentsOf: URL(fileURLWithPath: Self.path("deflated.npz"))))
    let end = stored.count - 22
    func u32(_ bytes: [UInt8], _ at: Int) -> Int { (0..<4).reduce(0) { $0 | Int(bytes[at + $1]) << (8 * $1) } }
    func changed(_ bytes: [UInt8], _ at: Int, _ values: [UInt8]) -> [UInt8] {
      var result = bytes
      for (i, value) in values.enumerated() { result[at + i] = value }
      return result
    }
    let directory = u32(stored, end + 16)
    let second = directory + 46 + Int(stored[directory + 28]) + Int(stored[directory + 30])
    let packed = u32(deflated, deflated.count - 22 + 16)
    let name = Array("../x".utf8)
    let full = [UInt8](repeating: 255, count: 4)
    let cases: [(String, [UInt8], FormatError.Kind)] = [
      ("nothing", [], .truncated), ("zeros", [UInt8](repeating: 0, count: 100), .malformed),
      ("cut", Array(stored.dropLast()), .truncated), ("cut in half", Array(stored.prefix(stored.count / 2)), .truncated),
      ("something before", [1] + stored, .invalidRange), ("entry count", changed(stored, end + 8, [11, 0, 11, 0]), .truncated),
      ("entry count too small", changed(stored, end + 8, [1, 0, 1, 0]), .trailingBytes),
      ("huge count", changed(stored, end + 8, [255, 254, 255, 254]), .sizeMismatch),
      ("disks", changed(stored, end + 4, [1, 0]), .unsupported),
      ("directory place", changed(stored, end + 16, [1, 0, 0, 0]), .invalidRange),
      ("no zip64", changed(stored, end + 16, full), .missing), ("encrypted", changed(stored, directory + 8, [1]), .unsupported),
      ("method", changed(stored, directory + 10, [12]), .unsupported),
      ("symbolic link", changed(stored, directory + 38, [0, 0, 0xff, 0xa1]), .unsupported),
      ("parent", changed(stored, directory + 46, name), .unsafePath),
      ("absolute", changed(stored, directory + 46, [47]), .unsafePath),
      ("backslash", changed(stored, directory + 46, [92]), .unsafePath),
      ("bytes", changed(stored, directory + 46, [255]), .invalidUTF8),
      ("other name", changed(stored, directory + 46, [65]), .invalidEntry),
      ("local place", changed(stored, directory + 42, [0xff, 0xff, 0xff, 0x7f]), .invalidRange),
      ("local place in content", changed(stored, directory + 42, [1]), .malformed),
      ("overlap", changed(stored, second + 42, Array(stored[(directory + 42)..<(directory + 46)])), .invalidEntry),
      ("checksum", changed(stored, directory + 16, [1, 2, 3, 4]), .sizeMismatch),
      ("size", changed(stored, directory + 24, [1, 0, 0, 0]), .sizeMismatch),
      ("bomb", changed(deflated, packed + 24, [0xff, 0xff, 0xff, 0x7f]), .limitExceeded),
      ("content", changed(stored, 60, [stored[60] ^ 1]), .checksumMismatch),
    ]
    for (name, bytes, kind) in cases {
      let error = formatError { try open(bytes) }
      #expect(error?.kind == kind, "\(name): \(String(describing: error))")
    }
    #expect(formatError { try open(deflated, limit: 1000) }?.kind == .limitExceeded)
  }

  @Test func twoEntriesOverTheSameBytesOverlap() throws {
    // The second entry, stored, reaches over the first one and has its own local header inside of it.
    try withTemporaryFolder { folder in
      try NPZFile.write(["a": Tensor.zeros([100])], to: folder + "/a.npz")
      let bytes = Array(try Data(contentsOf: URL(fileURLWithPath: folder + "/a.npz")))
      let end = bytes.count - 22
      let directory = (0..<4).reduce(0) { $0 | Int(bytes[end + 16 + $1]) << (8 * $1) }
      let entry = Array(bytes[directory..<end])
      // Twice the same entry: another name would need another local header, so the name is found first.
      var twice = Array(bytes[..<directory]) + entry + entry + Array(bytes[end...])
      let place = twice.count - 22
      (twice[place + 8], twice[place + 10]) = (2, 2)
      let size = 2 * entry.count
      (twice[place + 12], twice[place + 13]) = (UInt8(size & 255), UInt8(size >> 8))
      #expect(formatError { try open(twice) }?.kind == .duplicateKey)
    }
  }

  @Test func truncatedAndMutatedArchivesNeverTrap() throws {
    var generator = SeededGenerator(state: 11)
    let files = try ["stored.npz", "deflated.npz", "streamed.npz"].map {
      Array(try Data(contentsOf: URL(fileURLWithPath: Self.path($0))))
    }
    for bytes in files {
      for count in stride(from: 0, to: bytes.count, by: 61) {
        #expect(throws: FormatError.self) { try open(Array(bytes.prefix(count))) }
      }
    }
    for _ in 0..<1_500 {
      var bytes = files.randomElement(using: &generator)!
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
      }
      do { try open(bytes) } catch is FormatError {}
    }
  }
}
